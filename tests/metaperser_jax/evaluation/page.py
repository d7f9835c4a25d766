"""A page as tests read it."""

import html.parser


class Page(html.parser.HTMLParser):
    """Collects tags, attributes, text and cells; checks that tags are nested."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.tables = []  # cells of each line of each table
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += int(values.get("colspan", 1))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())
