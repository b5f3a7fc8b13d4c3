"""A broken page, searched and changed."""

from bs4 import BeautifulSoup

page = "<html><body><p class=a>One<p class=b>Two <a href='/x'>link</a></body>"
soup = BeautifulSoup(page, "html.parser")
soup.find("a")["href"] = "/y"
all(
    (
        [p["class"] for p in soup.find_all("p")] == [["a"], ["b"]],
        soup.select_one("p.b a").get_text() == "link",
        'href="/y"' in soup.decode(),
        soup.get_text(" ", strip=True) == "One Two link",
    )
)
