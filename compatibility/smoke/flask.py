"""An application with a template, a session and JSON, asked through its test client."""

from flask import Flask, jsonify, render_template_string, request, session

app = Flask(__name__)
app.secret_key = "for a test"


@app.get("/hello/<name>")
def hello(name):
    session["seen"] = session.get("seen", 0) + 1
    return render_template_string("<b>{{ name }}</b> {{ n }}", name=name, n=session["seen"])


@app.post("/sum")
def add():
    return jsonify(total=sum(request.get_json()))


client = app.test_client()
all(
    (
        client.get("/hello/<i>").text == "<b>&lt;i&gt;</b> 1",
        client.get("/hello/you").text == "<b>you</b> 2",
        client.post("/sum", json=[1, 2, 3]).get_json() == {"total": 6},
        client.get("/none").status_code == 404,
    )
)
