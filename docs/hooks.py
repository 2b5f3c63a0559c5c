"""For mkdocs: README files that stand beside the code are pages, too, and links to files that are
no pages show the file's path."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "experiments.md": "experiments/README.md"}
"""Page -> the file in the repository."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")


def on_files(files, config):
    """Adds the pages that stand elsewhere."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Each relative link leads to the page of that file, or becomes the file's path."""
    here = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    known = {f"docs/{f.src_uri}": f.src_uri for f in files}
    known |= {source: uri for uri, source in PAGES.items()}

    def lead(match):
        bang, text, target, anchor = match.groups()
        there = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if (ROOT / there).is_dir() and f"{there}/README.md" in known:
            there = f"{there}/README.md"
        if there in known:
            start = posixpath.dirname(page.file.src_uri) or "."
            return f"{bang}[{text}]({posixpath.relpath(known[there], start)}{anchor or ''})"
        return f"`{there}`" if text.strip("`") == target or "/" in text else f"{text} (`{there}`)"

    return LINK.sub(lead, markdown)
