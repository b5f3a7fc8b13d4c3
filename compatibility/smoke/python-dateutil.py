"""Dates read from text, moved by rules, and in time zones."""

from datetime import datetime, timedelta

from dateutil import parser, relativedelta, rrule, tz

zone = tz.gettz("Europe/Oslo")
fridays = rrule.rrule(rrule.WEEKLY, byweekday=rrule.FR, count=3, dtstart=datetime(2024, 1, 1))
all(
    (
        parser.parse("6 May 2024, 7:08 pm") == datetime(2024, 5, 6, 19, 8),
        datetime(2024, 1, 31) + relativedelta.relativedelta(months=1) == datetime(2024, 2, 29),
        [day.day for day in fridays] == [5, 12, 19],
        datetime(2024, 7, 1, tzinfo=zone).utcoffset() == timedelta(hours=2),
    )
)
