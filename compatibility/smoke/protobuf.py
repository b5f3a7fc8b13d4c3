"""A message type made at run time, sent through bytes and JSON."""

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.internal import api_implementation

file = descriptor_pb2.FileDescriptorProto(name="item.proto", package="shop", syntax="proto3")
message = file.message_type.add(name="Item")
message.field.add(name="name", number=1, type=9, label=1)
message.field.add(name="sizes", number=2, type=5, label=3)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
Item = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Item"))
item = Item(name="tea", sizes=[1, 2, 300])
all(
    (
        Item.FromString(item.SerializeToString()) == item,
        json_format.MessageToDict(item) == {"name": "tea", "sizes": [1, 2, 300]},
        api_implementation.Type() == "upb",
    )
)
