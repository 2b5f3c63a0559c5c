-- The database that traces/sqlite.sql queries: about 25 MB, the same bytes every time.
PRAGMA page_size = 4096;
PRAGMA journal_mode = OFF;
CREATE TABLE item(id INTEGER PRIMARY KEY, category INT, price INT, name TEXT, body TEXT);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49999)
INSERT INTO item
SELECT i, i * 7919 % 100, i * 104729 % 10007,
       printf('item %08x', i * 2654435761 % 4294967296),
       printf('%.*c', 200 + i * 31 % 300, 'x')
FROM n;
CREATE TABLE sale(id INTEGER PRIMARY KEY, item INT, quantity INT, day INT);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
INSERT INTO sale SELECT i, i * 48271 % 50000, 1 + i * 31 % 9, i / 274 FROM n;
CREATE INDEX item_price ON item(price);
CREATE INDEX sale_day ON sale(day);
