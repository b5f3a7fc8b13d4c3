"""Templates: inheritance, filters, loops, the sandboxed environment."""

from jinja2 import DictLoader, Environment
from jinja2.sandbox import SandboxedEnvironment, SecurityError

pages = Environment(
    loader=DictLoader(
        {
            "base": "<{% block body %}{% endblock %}>",
            "page": "{% extends 'base' %}{% block body %}{% for n in names|sort %}{{ loop.index }}"
            "{{ n|e }} {% endfor %}{% endblock %}",
        }
    )
)
try:
    SandboxedEnvironment().from_string("{{ ().__class__.__mro__ }}").render()
    refused = False
except SecurityError:
    refused = True
all((pages.get_template("page").render(names=["b", "<a"]) == "<1&lt;a 2b >", refused))
