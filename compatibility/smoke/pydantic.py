"""Models: checking, conversion, nested errors, JSON and its schema."""

from datetime import date

from pydantic import BaseModel, Field, TypeAdapter, ValidationError


class Item(BaseModel):
    name: str = Field(min_length=2)
    price: float


class Order(BaseModel):
    day: date
    items: list[Item]


order = Order.model_validate_json('{"day": "2024-05-06", "items": [{"name": "tea", "price": "3"}]}')
try:
    Order(day="never", items=[{"name": "x"}])
    wrong = 0
except ValidationError as error:
    wrong = error.error_count()
all(
    (
        order.day == date(2024, 5, 6),
        order.items[0].price == 3.0,
        wrong == 3,
        Order.model_json_schema()["properties"]["items"]["type"] == "array",
        TypeAdapter(dict[str, int]).validate_python({"a": "1"}) == {"a": 1},
        Order.model_validate_json(order.model_dump_json()) == order,
    )
)
