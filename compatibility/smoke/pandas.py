"""Tables: CSV, grouping, joining, dates, pivoting."""

from io import StringIO

import pandas as pd

text = "day,city,sold\n2024-01-01,Oslo,3\n2024-01-01,Rome,5\n2024-02-03,Oslo,7\n2024-02-04,Rome,\n"
sales = pd.read_csv(StringIO(text), parse_dates=["day"])
places = pd.DataFrame({"city": ["Oslo", "Rome"], "country": ["Norway", "Italy"]})
joined = sales.merge(places, on="city")
monthly = sales.set_index("day")["sold"].resample("MS").sum()
pivot = sales.pivot_table(index="city", columns=sales["day"].dt.month, values="sold")
all(
    (
        joined.groupby("country")["sold"].sum().to_dict() == {"Italy": 5.0, "Norway": 10.0},
        monthly.tolist() == [8.0, 7.0],
        pivot.loc["Oslo", 2] == 7,
        int(sales["sold"].isna().sum()) == 1,
        pd.read_json(StringIO(sales.to_json(date_format="iso"))).shape == (4, 3),
        sales["city"].str.upper().tolist()[0] == "OSLO",
    )
)
