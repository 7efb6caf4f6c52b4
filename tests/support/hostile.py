"""Texts that somebody may have put into a table to do harm where they are shown."""

# To a spreadsheet, a terminal, or a table in Markdown.
CELL_TEXTS = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\uff1d1+1",
    "'quoted",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://x\x07link",
    "a\nb\r\nc",
    "nul\0byte",
    'quote " and , comma',
    "\ud800half a pair",
    "\u202eright to left",
    "| table | [link](http://x) `code`",
)

# To a page in a browser.
PAGE_TEXTS = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 2</script>",
    "<img src=x onerror='window.pwned = 3'>",
    '"><svg onload="window.pwned = 4">',
    '=HYPERLINK("http://192.0.2.1/","x")',
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x1b[0m\x00\u202eesrever",
    "]]><!-- --><![CDATA[",
)
