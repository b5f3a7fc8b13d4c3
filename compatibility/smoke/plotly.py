"""A figure as JSON and as a page of HTML."""

import json

import plotly.graph_objects as go

figure = go.Figure(go.Scatter(x=[1, 2, 3], y=[4, 1, 9], name="line"))
figure.add_bar(x=[1, 2, 3], y=[1, 2, 3])
figure.update_layout(title="two traces")
data = json.loads(figure.to_json())
all(
    (
        [trace["type"] for trace in data["data"]] == ["scatter", "bar"],
        data["layout"]["title"]["text"] == "two traces",
        "<div" in figure.to_html(include_plotlyjs=False),
    )
)
