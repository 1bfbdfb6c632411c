#!/usr/bin/env python3
"""What the pages in docs need to be a book.

    scripts/book.py [supports RENDERER]   the preprocessor of docs/book.toml: reads a book as JSON from
                                          standard input, and writes it to standard output with links to
                                          files that are not in it turned into the names of these files
    scripts/book.py check FOLDER          exits with 1 if a link within the built book leads nowhere

mdBook calls the first: https://rust-lang.github.io/mdBook/for_developers/preprocessors.html
"""

import json
import os
import re
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def chapters(items):
    """Every chapter, those within others, too."""
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            yield chapter
            yield from chapters(chapter["sub_items"])


def without_strangers(text, folder):
    """The text, with links to what is not in the book as the names of files in the checkout."""

    def mend(match):
        words, target = match.groups()
        path = os.path.normpath(os.path.join(folder, target.partition("#")[0]))
        if urlsplit(target).scheme:
            return match[0]
        if path == "SUMMARY.md":
            return words
        if not path.startswith(".."):
            # The page of a folder is its index in the book.
            return match[0].replace("README.md", "index.md")
        name = path.removeprefix("../")
        return words if name in words or os.path.basename(name) in words else f"{words} (`{name}`)"

    return LINK.sub(mend, text)


def preprocess():
    _, book = json.load(sys.stdin)
    for chapter in chapters(book.get("items") or book.get("sections")):
        folder = os.path.dirname(chapter["path"] or "")
        chapter["content"] = without_strangers(chapter["content"], folder)
    json.dump(book, sys.stdout)


class Page(HTMLParser):
    """What a page links to, and what in it can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if attributes.get("id"):
            self.anchors.add(attributes["id"])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "img" and attributes.get("src"):
            self.links.append(attributes["src"])


def read(folder):
    """Every page by its path."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".html"):
                path = os.path.join(place, name)
                with open(path, encoding="utf-8") as file:
                    found[os.path.normpath(path)] = Page(file.read())
    return found


def dead(path, link, pages):
    """Whether a link of a page leads nowhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = path
    if parts.path:
        target = os.path.normpath(os.path.join(os.path.dirname(path), unquote(parts.path)))
    if target not in pages:
        return not os.path.isfile(target)
    return bool(parts.fragment) and unquote(parts.fragment) not in pages[target].anchors


def check(folder):
    pages = read(folder)
    # What is shown in place of a page that is not there is served from anywhere.
    lost = [f"{path}: {link}" for path, page in pages.items() for link in page.links
            if os.path.basename(path) != "404.html" and dead(path, link, pages)]
    print("\n".join(lost) if lost else f"{folder}: every link of {len(pages)} pages leads somewhere")
    sys.exit(1 if lost or not pages else 0)


def main():
    match sys.argv[1:]:
        case []:
            preprocess()
        case ["supports", _]:
            pass
        case ["check", folder]:
            check(folder)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
