"""Versions, ranges, requirements and markers."""

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

wanted = Requirement("pandas[excel]>=2.1,!=2.2.0; python_version >= '3.8'")
all(
    (
        Version("1.10") > Version("1.9rc1"),
        Version("2.2.1") in wanted.specifier and Version("2.2.0") not in wanted.specifier,
        wanted.extras == {"excel"},
        list(SpecifierSet("~=1.4").filter(["1.3", "1.4.2", "2.0"])) == ["1.4.2"],
        Marker("os_name == 'posix'").evaluate(),
    )
)
