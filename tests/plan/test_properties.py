"""What holds for every policy on every machine (M10: deny by default, nothing silently weaker)."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from belljar.errors import UnsupportedError
from belljar.plan import landlock as ll
from belljar.plan.guarantees import GUARANTEES
from belljar.plan.steps import Plan
from belljar.plan.support import NAMESPACE_KINDS, Support, assume_isolated
from belljar.policy import Policy
from belljar.policy.limits import LIMITS

from .machines import FULL, MACHINES, POLICIES, plan_for

KERNELS = [(4, 19), (5, 4), (5, 10), (5, 11), (5, 12), (5, 13), (5, 14), (6, 1), (6, 18)]
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16}  # how many each ABI knows

supports = st.builds(
    Support,
    machine=st.sampled_from(["x86_64", "aarch64"]),
    kernel=st.sampled_from(KERNELS),
    uid=st.sampled_from([0, 1000]),
    gid=st.sampled_from([0, 1000]),
    landlock_abi=st.integers(0, 7),
    seccomp=st.sampled_from([True, True, True, False]),
    namespaces=st.just(frozenset(NAMESPACE_KINDS))
    | st.frozensets(st.sampled_from(NAMESPACE_KINDS)),
    mounts=st.booleans(),
    proc=st.booleans(),
    mounts_as_root=st.booleans(),
)
machines = st.sampled_from(list(MACHINES.values())) | supports
grants = st.fixed_dictionaries(
    {},
    optional={
        "read": st.sampled_from([["/srv/data"], ["/srv/a.txt", "/tmp/in"], {"/srv/x": "/work/x"}]),
        "write": st.sampled_from([["/var/out"], ["/tmp/out"], {"/srv/y": "/work/y"}]),
        "packages": st.just(["demo"]),
        "env": st.just({"A": "1"}),
        "system_info": st.just(True),
        "threads": st.sampled_from([17, 4096]),
        "memory_bytes": st.just(2**34),
        "cpu_s": st.sampled_from([5.5, 3600]),
        "processes": st.just(3),
    },
)
limits = st.fixed_dictionaries(
    {},
    optional={
        "threads": st.sampled_from([0, 1]),
        "memory_bytes": st.just(2**24),
        "cpu_s": st.just(0.25),
        "open_files": st.just(16),
    },
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy().allow(**draw(grants)).limit(**draw(limits))


def try_plan(policy: Policy, support: Support) -> Plan:
    """The plan, or no example."""
    try:
        return plan_for(policy, support)
    except UnsupportedError:
        assume(False)
        raise


def refusal(policy: Policy, support: Support) -> UnsupportedError | None:
    try:
        plan_for(policy, support)
    except UnsupportedError as error:
        return error
    return None


def verbs(plan: Plan) -> list[str]:
    return [step.verb for step in plan.guest]


def landlock(plan: Plan) -> tuple | None:
    return next((step.args for step in plan.guest if step.verb == "landlock"), None)


@settings(max_examples=300, deadline=None)
@given(policies(), machines)
def test_every_guarantee_is_held_or_given_up_by_a_grant_or_there_is_no_plan(policy, support):
    promised = {guarantee.name: guarantee for guarantee in GUARANTEES}
    error = refusal(policy, support)
    if error is not None:
        assert error.missing
        assert error.remedy
        return
    plan = plan_for(policy, support)
    assert [held.name for held in plan.guarantees] == list(promised)
    for held in plan.guarantees:
        guarantee = promised[held.name]
        here = [m.name for m in guarantee.mechanisms if m.applied(policy) and m.present(support)]
        assert list(held.mechanisms) == here
        assert held.lost == (not here)
        assert not held.lost or guarantee.given_up_by(policy)
        # What is not there and has no remedy has given way to something better.
        told = {
            m.name
            for m in guarantee.mechanisms
            if m.applied(policy) and (m.remedy or m.present(support))
        }
        assert {*held.mechanisms, *held.lacking} == told


# Each mechanism that a plan claims, and the steps by which it is there.
STEPS = {
    "canonical root in a mount namespace": {"build_root", "enter_root", "mount_own"},
    "Landlock ruleset": {"landlock"},
    "Landlock network rules": {"landlock"},
    "Landlock scopes": {"landlock"},
    "seccomp filter": {"seccomp"},
    "noexec standard library": {"build_root", "enter_root"},
    "noexec mounts": {"build_root", "enter_root", "mount_own"},
    "no_new_privs": {"no_new_privs"},
    "empty capability sets": {"drop_capabilities"},
    "user namespace of its own": {"own_user_namespace"},
    "canonical root with just these programs": {"build_root", "enter_root", "lead_session"},
    "Landlock execute rules": {"landlock", "lead_session"},
    "RLIMIT_AS": {"limit_address_space"},
    "sized tmpfs": {"mount_own"},
    "parent-death signals and closed sockets": {"die_with_zygote"},
    "end of the PID namespace": {"first_process"},
    "cgroup memory.max": {"join_group"},
    "cgroup pids.max": {"join_group"},
    "cgroup cpu.stat": {"join_group"},
    "executed afresh, all descriptors closed": {"execute"},
}
RLIMITS = {
    "RLIMIT_CPU": {"cpu"},
    "RLIMIT_NPROC": {"nproc"},
    "RLIMIT_NPROC in a user namespace of its own": {"nproc"},
    "RLIMIT_NOFILE and RLIMIT_FSIZE": {"nofile", "fsize"},
}
BY_THE_HOST = {
    "host's clock and pidfd kill",
    "host's watch over all processes",
    "pipes read and counted by the host",
}


@settings(max_examples=200, deadline=None)
@given(policies(), machines)
def test_a_mechanism_that_is_claimed_has_its_steps(policy, support):
    plan = try_plan(policy, support)
    done = {step.verb for step in (*plan.launch, *plan.guest)}
    limited = {step.args[0] for step in plan.guest if step.verb == "limit"}
    unshared = {kind for step in plan.launch if step.verb == "unshare" for kind in step.args[0]}
    for held in plan.guarantees:
        for name in held.mechanisms:
            if name in STEPS:
                assert STEPS[name] <= done
            elif name in RLIMITS:
                assert RLIMITS[name] <= limited
            elif name.endswith(" namespaces"):
                wanted = set(name.removesuffix(" namespaces").replace(",", "").split()) - {"and"}
                if policy.system_info:
                    wanted.discard("uts")
                assert wanted <= unshared
            elif name == "empty network namespace":
                assert "net" in unshared
            else:
                assert name in BY_THE_HOST


@settings(max_examples=200, deadline=None)
@given(policies(), machines)
def test_the_order_of_the_irreversible_steps(policy, support):
    done = verbs(try_plan(policy, support))
    assert len(done) - len([v for v in done if v == "limit"]) == len({*done} - {"limit"})
    assert done[0] == "die_with_zygote"
    assert done[-1] == "seccomp"
    assert done.index("drop_capabilities") < done.index("no_new_privs") < done.index("seccomp")
    if "landlock" in done:
        assert done.index("no_new_privs") < done.index("landlock")
    if "own_user_namespace" in done:
        # Limits count from there on, and its capabilities must be dropped after it is made.
        assert done.index("mount_own") < done.index("own_user_namespace")
        assert done.index("own_user_namespace") < done.index("limit")
        assert done.index("own_user_namespace") < done.index("drop_capabilities")


@settings(max_examples=200, deadline=None)
@given(policies(), machines)
def test_with_namespaces_no_guest_is_the_kernels_user_0(policy, support):
    """RLIMIT_NPROC does not bind user 0, and it owns the host's files (M10)."""
    plan = try_plan(policy, support)
    launched = [step.verb for step in plan.launch]
    if plan.isolated and support.uid == 0:
        mapped = next(step.args for step in plan.launch if step.verb == "map_identity")
        assert launched.index("become") < launched.index("map_identity")
        assert mapped[2] != 0
        assert mapped[3] != 0
    assert launched[0] == "new_session"
    assert launched[-1] == "execute"
    if plan.isolated:
        assert launched.index("make_private") < launched.index("open_sources")
        assert launched.index("open_sources") < launched.index("build_root")
        assert launched.index("first_process") < launched.index("enter_root")


@settings(max_examples=200, deadline=None)
@given(policies(), machines)
def test_limits_in_force_are_never_above_the_policys(policy, support):
    plan = try_plan(policy, support)
    assert plan.limits <= policy.limits
    for name in LIMITS:
        if plan.limits[name] != policy.limits[name]:
            assert any(note.startswith(f"{name}:") for note in plan.notes)
    in_force = {step.args[0]: step.args[1] for step in plan.guest if step.verb == "limit"}
    assert in_force["nofile"] == plan.limits.open_files
    assert in_force["fsize"] == plan.limits.file_bytes
    assert plan.limits.cpu_s <= in_force["cpu"] <= plan.limits.cpu_s + 1
    assert in_force["core"] == 1  # with 0 the program that core_pattern names is started
    assert in_force["memlock"] == in_force["msgqueue"] == 0
    assert plan.filter.threads == (plan.limits.threads > 0)
    several = plan.limits.processes
    assert plan.filter.processes == (several > 0)
    if plan.limits.threads or several:
        assert in_force["nproc"] == plan.limits.threads + several + 1


@settings(max_examples=200, deadline=None)
@given(policies(), machines)
def test_landlock_masks_hold_only_what_the_abi_knows(policy, support):
    plan = try_plan(policy, support)
    args = landlock(plan)
    assert (args is None) == (support.landlock_abi == 0)
    if args is None:
        return
    abi, files, net, scoped, rules = args
    assert files == (1 << FILE_RIGHTS[abi]) - 1
    assert net == (3 if abi >= 4 else 0)
    assert scoped == (3 if abi >= 6 else 0)
    for path, rights in rules:
        assert rights
        assert rights & ~files == 0
        assert rights & (ll.MAKE_CHAR | ll.MAKE_BLOCK) == 0
        if rights & ll.EXECUTE:
            assert plan.limits.processes
            assert rights == ll.EXECUTE | ll.READ_FILE, "what is executed cannot be written (C9)"
        assert not rights & ll.MAKE_SOCK or plan.filter.unix_sockets
        assert path.startswith("/")
        assert path != "/"


@settings(max_examples=200, deadline=None)
@given(policies(), machines)
def test_only_write_grants_and_own_places_can_be_written(policy, support):
    plan = try_plan(policy, support)
    args = landlock(plan)
    writable = {grant.inside for grant in policy.write} | {"/dev/null", "/dev/full"}
    if plan.isolated:
        writable |= {"/work", "/tmp"}
        if plan.limits.processes:
            writable.add("/dev/shm")
        written = {grant.host for grant in policy.write}
        (built,) = (step.args[0] for step in plan.launch if step.verb == "open_sources")
        writable |= {entry[1] for entry in built if entry[0] == "place" and entry[2] in written}
        (entries,) = (step.args[0] for step in plan.launch if step.verb == "open_sources")
        for kind, target, *rest in entries:
            if kind not in ("bind", "bind?", "place"):
                continue
            attributes = rest[1]
            assert attributes & 2, "nosuid"
            assert attributes & 4 or target.startswith("/dev/"), "nodev"
            if not attributes & 1:
                assert attributes & 8, "what can be written cannot be executed (C9)"
                host = rest[0]
                assert host in {grant.host for grant in policy.write}
    if args is not None:
        for path, rights in args[4]:
            if rights & ~(ll.READ | ll.EXECUTE):
                assert path in writable


@settings(max_examples=200, deadline=None)
@given(policies(), grants, machines)
def test_a_wider_policy_never_takes_a_step_away(policy, more, support):
    """Steps confine; grants may change their arguments, but each of them is still done."""
    wider = policy
    try:
        wider = policy.allow(**more)
    except ValueError:
        assume(False)
    narrow, wide = try_plan(policy, support), try_plan(wider, support)
    # A group of its own is for guests of several processes; one process cannot signal a group.
    before, after = ([v for v in verbs(plan) if v != "lead_session"] for plan in (narrow, wide))
    assert before == after
    known = {"set_host_name", "hide_uptime"} if wider.system_info else set()
    assert {s.verb for s in narrow.launch} - known <= {s.verb for s in wide.launch}
    before, after = landlock(narrow), landlock(wide)
    if before is not None and after is not None:
        assert before[:4] == after[:4]


@settings(max_examples=100, deadline=None)
@given(policies(), machines)
def test_a_plan_is_the_same_every_time_and_is_plain_data(policy, support):
    from belljar.wire.control import Unpacker, pack

    plan = try_plan(policy, support)
    assert plan == plan_for(policy, support)
    for steps in (plan.launch, plan.guest):
        ((_, fields),) = Unpacker().feed(pack("steps", steps=[s.as_list() for s in steps]))
        assert [step[0] for step in fields["steps"]] == [step.verb for step in steps]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_processes_are_refused_where_nothing_counts_them(machine):
    """R2: RLIMIT_NPROC counts one guest alone in a user namespace of its own, and only there."""
    policy = Policy().allow(processes=1, system_info=True)
    support = MACHINES[machine]
    if support.counts_threads and support.seccomp:
        held = {one.name: one for one in plan_for(policy, MACHINES[machine]).guarantees}
        assert "RLIMIT_NPROC" in held["processes"].mechanisms
        assert "seccomp filter" not in held["processes"].mechanisms  # it lets fork and exec pass
        return
    with pytest.raises(UnsupportedError) as caught:
        plan_for(policy, MACHINES[machine])
    if not support.counts_threads:
        assert any(line.startswith("processes: ") for line in caught.value.missing)


def test_several_processes_get_a_group_of_their_own_and_shared_memory():
    """R2, K9: what one process does not need."""
    one, several = (plan_for(Policy().allow(processes=n), FULL) for n in (0, 2))
    verbs = [[step.verb for step in plan.guest] for plan in (one, several)]
    assert "lead_session" not in verbs[0]
    assert verbs[1].index("lead_session") < verbs[1].index("seccomp")
    mounted = [
        next(step.args[-1] for step in plan.guest if step.verb == "mount_own")
        for plan in (one, several)
    ]
    assert mounted == ["", "/dev/shm"]


def test_sockets_with_names_only_where_none_of_the_hosts_can_be_reached():
    """R10, K9: a granted folder may hold a socket of the host's."""
    several = Policy().allow(processes=2)
    assert plan_for(several, FULL).filter.unix_sockets
    assert not plan_for(Policy(), FULL).filter.unix_sockets
    assert not plan_for(several.allow(read=["/srv/data"]), FULL).filter.unix_sockets
    assert not plan_for(several.allow(write=["/srv/data"]), FULL).filter.unix_sockets


def test_without_namespaces_an_alias_is_refused_because_nobody_would_find_it():
    alone = MACHINES["landlock_7_alone"]
    policy = Policy().allow(system_info=True, read={"/srv/data": "/data"})
    with pytest.raises(UnsupportedError, match=r"/srv/data cannot be shown as /data"):
        plan_for(policy, alone)
    assert plan_for(Policy().allow(system_info=True, read=["/data"]), alone)


def test_without_noexec_mounts_a_write_grant_is_refused():
    """C9: a file that the guest wrote could be mapped as code, which no filter can see."""
    alone = MACHINES["landlock_7_alone"]
    with pytest.raises(UnsupportedError, match="native code: "):
        plan_for(Policy().allow(system_info=True, write=["/srv/out"]), alone)


@pytest.mark.parametrize("abi", range(3))
def test_landlock_alone_must_refuse_truncation(abi):
    """R3, R4: before ABI 3 a file outside every grant could be cut to nothing."""
    with pytest.raises(UnsupportedError, match="files: "):
        plan_for(Policy().allow(system_info=True), FULL.replace(mounts=False, landlock_abi=abi))


def test_without_seccomp_nothing_runs():
    with pytest.raises(UnsupportedError, match="filter: "):
        plan_for(POLICIES["system_info"], MACHINES["no_seccomp"])


@pytest.mark.parametrize("machine", MACHINES)
def test_each_remedy_is_something_that_a_reader_can_do(machine):
    """Every line begins with a verb, or says what the kernel answered and where."""
    deeds = ("allow ", "boot ", "use ", "grant ", "drop ", "leave ", "block ")
    facts = (*[f"{kind} namespace: " for kind in NAMESPACE_KINDS], "mounts: ")
    for policy in POLICIES.values():
        error = refusal(policy, MACHINES[machine])
        if error is None:
            continue
        assert any(line.startswith(deeds) for line in error.remedy)
        assert len(set(error.remedy)) == len(error.remedy)
        for line in error.remedy:
            assert line.startswith((*deeds, *facts)), line
            assert not line.endswith((" ", ":", ".")), line


@settings(max_examples=100, deadline=None)
@given(policies(), supports)
def test_following_the_remedies_helps(policy, support):
    """What ``missing`` says is all there is: a machine and a policy without it have a plan."""
    error = refusal(policy, support)
    if error is not None:
        if any(line.startswith("processes:") for line in error.missing):
            policy = policy.limit(processes=0)
        assert plan_for(policy, FULL)


def test_an_assumed_machine_differs_only_in_what_a_launch_tries():
    quick = FULL.replace(namespaces=frozenset(), mounts=False, proc=False)
    assumed = assume_isolated(quick)
    assert assumed.isolated
    assert assumed.replace(namespaces=quick.namespaces, mounts=False, proc=False) == quick
    assert not assume_isolated(quick.replace(kernel=(5, 10))).isolated
