"""XML and HTML: XPath, XSLT, a schema, broken HTML repaired."""

from lxml import etree, html

tree = etree.fromstring("<shop><item price='3'>tea</item><item price='9'>ham</item></shop>")
style = etree.XSLT(
    etree.fromstring("""
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:template match="/shop"><list><xsl:for-each select="item">
    <name><xsl:value-of select="."/></name></xsl:for-each></list></xsl:template>
</xsl:stylesheet>""")
)
schema = etree.RelaxNG(
    etree.fromstring("""
<element name="shop" xmlns="http://relaxng.org/ns/structure/1.0"><oneOrMore>
  <element name="item"><attribute name="price"/><text/></element></oneOrMore></element>""")
)
page = html.fromstring("<ul><li>one<li>two</ul>")
all(
    (
        tree.xpath("//item[@price > 5]/text()") == ["ham"],
        [name.text for name in style(tree).getroot()] == ["tea", "ham"],
        schema.validate(tree),
        [li.text for li in page.iter("li")] == ["one", "two"],
        etree.tostring(tree, pretty_print=True).count(b"\n") == 4,
    )
)
