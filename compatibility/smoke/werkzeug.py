"""Routes, a response, password hashes, an uploaded file."""

import io

from werkzeug.routing import Map, Rule
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

urls = Map([Rule("/item/<int:n>", endpoint="item")])


@Request.application
def app(request):
    if request.files:
        return Response(request.files["f"].read()[::-1])
    endpoint, values = urls.bind_to_environ(request.environ).match()
    return Response(f"{endpoint} {values['n']}")


client = Client(app)
all(
    (
        client.get("/item/7").text == "item 7",
        client.post("/", data={"f": (io.BytesIO(b"abc"), "f.txt")}).data == b"cba",
        check_password_hash(generate_password_hash("word", "pbkdf2:sha256:1000"), "word"),
    )
)
