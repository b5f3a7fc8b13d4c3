"""Time zones of its own data."""

from datetime import datetime, timedelta

import pytz

oslo = pytz.timezone("Europe/Oslo")
summer = oslo.localize(datetime(2024, 7, 1, 12))
all(
    (
        summer.utcoffset() == timedelta(hours=2),
        summer.astimezone(pytz.utc).hour == 10,
        oslo.normalize(summer + timedelta(days=180)).utcoffset() == timedelta(hours=1),
        "Asia/Tokyo" in pytz.all_timezones_set,
    )
)
