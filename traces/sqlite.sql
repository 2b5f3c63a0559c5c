-- What traces/sqlite.parquet is a trace of. All pages stay in sqlite's own page cache, so
-- that every access is one to the program's memory and not a system call.
PRAGMA cache_size = -131072;
PRAGMA journal_mode = MEMORY;

-- Point queries on skewed keys; a linear congruential generator makes them.
WITH RECURSIVE g(n, x) AS (
  SELECT 1, 42 UNION ALL SELECT n + 1, (x * 1103515245 + 12345) % 2147483648 FROM g WHERE n < 6000)
SELECT count(*), sum(price), max(name)
FROM g CROSS JOIN item
  ON item.id = CAST((x / 2147483648.0) * (x / 2147483648.0) * (x / 2147483648.0) * 50000 AS INT)
               * 7919 % 50000;

-- A scan of everything, grouped.
SELECT category, count(*), avg(price) FROM item GROUP BY category LIMIT 5;

-- A range of an index: rows all over the table.
SELECT count(*), sum(length(body)) FROM item INDEXED BY item_price WHERE price BETWEEN 2000 AND 2400;

-- A join: one month's sales.
SELECT category, sum(quantity * price) AS revenue
FROM sale CROSS JOIN item ON item.id = sale.item
WHERE day BETWEEN 100 AND 115 GROUP BY category ORDER BY revenue DESC LIMIT 5;

-- Updates, with the index they maintain.
BEGIN;
UPDATE item SET price = price + 1 WHERE category IN (3, 14, 15);
COMMIT;

-- Another hot set.
WITH RECURSIVE g(n, x) AS (
  SELECT 1, 7 UNION ALL SELECT n + 1, (x * 1103515245 + 12345) % 2147483648 FROM g WHERE n < 6000)
SELECT count(*), sum(price), max(name)
FROM g CROSS JOIN item
  ON item.id = (CAST((x / 2147483648.0) * (x / 2147483648.0) * (x / 2147483648.0) * 50000 AS INT)
                * 104729 + 12345) % 50000;

-- A sort of the whole table.
SELECT id, price, name FROM item ORDER BY price DESC, name LIMIT 5;
