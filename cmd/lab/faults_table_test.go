package main

// This is the table of docs/faults.md, and the only place where it is written: a
// test renders the page's tables from it, and TestLabEveryFault runs its cells.

// faultName is what happens, in the words of docs/faults.md.
type faultName string

// What can happen to a host, and to the database and Redis.
const (
	isCut      faultName = "cut"
	isFrozen   faultName = "frozen"
	isRebooted faultName = "rebooted"
	isOff      faultName = "powered off"
	isFull     faultName = "disk full"
	isSlow     faultName = "64 kB a second"
	isPromoted faultName = "database promoted"
	dbGone     faultName = "database gone"
	isMoved    faultName = "Redis moved"
	redisGone  faultName = "Redis gone"
)

// hostFaults are the columns of the hosts' tables.
func hostFaults() []faultName {
	return []faultName{isCut, isFrozen, isRebooted, isOff, isFull, isSlow}
}

// outcome is what refit must do, in the legend's short words.
type outcome string

// The legend. Two of them with a stroke between: the one or the other, by the moment
// at which the fault hits.
const (
	goesOn  outcome = "on"
	waits   outcome = "wait"
	fails   outcome = "1"
	refuses outcome = "3"
	returns outcome = "6"
	person  outcome = "7"
	cannot  outcome = "–"
)

// legend says what each outcome means.
func legend() [][2]string {
	return [][2]string{
		{string(goesOn), "Goes on; exit 0. The step does not need the host, or copes."},
		{string(waits), "Says what it waits for (`waiting for kirk, 10 s of at most 1:00 min`), and when all answers again checks and runs the step again; exit 0."},
		{string(fails), "Exit 1: every step is taken back before any node was switched. Mend the cause, `refit upgrade` again (`refit resume` where it was the keeper that refused the journal: nothing is done or undone without one)."},
		{string(refuses), "Exit 3: refused with the host's name, nothing was touched. Mend it, `refit upgrade` again."},
		{string(returns), "Exit 6: every node is on the old release and in rotation on every proxy that answers."},
		{string(person), "Exit 7: stops where it stands; the report names each host's release, what is missing, and the next command (bring it back, then `refit resume`)."},
		{string(cannot), "Cannot occur: there is no such host, or the fault has only one form."},
	}
}

// where is whose fault it is.
type where string

// The rows of each stage's table.
const (
	own    where = "its host"
	peer   where = "its peer"
	keeper where = "the keeper"
	proxy  where = "a proxy"
)

// cell is what must follow a fault that passes within waits.unreachable, and one
// that stays.
type cell struct{ passes, stays outcome }

// hostRow is one line of a stage's table: a cell for each of hostFaults.
type hostRow struct {
	where where
	// host is the one of the lab that the tests take; empty where there is none.
	host  string
	cells [6]cell
	// also says why there is no such host.
	none string
}

// stageFaults is one stage's table.
type stageFaults struct {
	// name heads the table, step is the plan's line in which the fault hits.
	name, step string
	rows       []hostRow
	// database is promoted or stays away, Redis moves or stays away.
	database, redis cell
	// why says what is not plain.
	why string
}

// away are the cells of a host that is cut, frozen, rebooted or off; it is back from
// a reboot by itself.
func away(c, full, slow cell) [6]cell {
	return [6]cell{c, c, {c.passes, cannot}, c, full, slow}
}

func only(o outcome) cell { return cell{o, o} }

const either = "|"

// faultTable is the table.
func faultTable() []stageFaults {
	ok := only(goesOn)
	none := func(w where, why string) hostRow { return hostRow{where: w, none: why} }
	// A keeper with a full disk answers, so it is not waited for: it refuses the journal.
	// What is over before the next word of the journal is not noticed.
	keeperRow := func(full outcome) hostRow {
		return hostRow{where: keeper, host: "uhura", cells: away(cell{waits, person}, cell{goesOn + either + full, full}, ok)}
	}
	// A proxy is needed from the first web roll on.
	proxyLater := hostRow{where: proxy, host: "sulu", cells: away(cell{goesOn, returns}, cell{goesOn + either + returns, returns}, ok)}
	proxyNeeded := hostRow{where: proxy, host: "sulu", cells: away(cell{waits, returns}, only(returns), ok)}
	proxyIdle := hostRow{where: proxy, host: "chekov", cells: away(ok, ok, ok)}
	idle := func(w where, host string) hostRow { return hostRow{where: w, host: host, cells: away(ok, ok, ok)} }
	// A roll writes a link and nothing else: a node whose disk is full is rolled, and its
	// gates tell whether it serves. A file system that has no room for a link refuses it.
	rolledFull := only(goesOn + either + returns + either + person)
	const all = "all nodes at once: every one is \"its host\""
	return []stageFaults{
		{
			name: "preflight", step: "preflight",
			rows: []hostRow{
				{where: own, host: "kirk", cells: away(cell{refuses + either + waits, refuses + either + fails}, only(refuses+either+fails), ok)},
				none(peer, all),
				{where: keeper, host: "uhura", cells: away(cell{refuses + either + waits, fails + either + person}, only(fails), ok)},
				{where: proxy, host: "sulu", cells: away(cell{refuses + either + goesOn, refuses + either + returns}, cell{refuses + either + goesOn, refuses + either + returns}, ok)},
			},
			database: cell{refuses + either + goesOn, refuses + either + fails}, redis: cell{refuses + either + goesOn, refuses + either + person},
			why: "Preflight waits for nothing: an upgrade that has not begun need not begin on a fleet that is ill. A fault that hits after its look is met by the step that needs the host.",
		},
		{
			name: "build", step: "build",
			rows: []hostRow{
				{where: own, host: "uhura", cells: away(cell{waits, person}, only(fails), ok)},
				none(peer, "one builder"),
				keeperRow(fails), proxyLater,
			},
			database: cell{goesOn, fails}, redis: cell{goesOn, person},
			why: "The lab's builder is its keeper too, so a builder that stays away ends with 7 there (the lease); a builder of its own ends with 1.",
		},
		{
			name: "place", step: "place",
			rows: []hostRow{
				{where: own, host: "scotty", cells: away(cell{waits, fails}, only(fails), ok)},
				none(peer, all),
				keeperRow(fails), proxyLater,
			},
			database: cell{goesOn + either + waits, fails}, redis: cell{goesOn + either + waits, fails + either + person},
		},
		{
			name: "bridge", step: "bridge assets",
			rows: []hostRow{
				{where: own, host: "kirk", cells: away(cell{waits, fails}, cell{goesOn + either + fails, fails + either + returns}, ok)},
				none(peer, all),
				keeperRow(fails), proxyLater,
			},
			database: cell{goesOn, fails}, redis: cell{goesOn, person},
		},
		{
			name: "pre-migrate", step: "pre-migrate",
			rows: []hostRow{
				{where: own, host: "scotty", cells: away(cell{waits, fails}, cell{goesOn + either + returns, returns + either + person}, ok)},
				{where: peer, host: "decker", cells: away(cell{goesOn, returns + either + person}, rolledFull, ok)},
				keeperRow(fails), proxyLater,
			},
			database: cell{waits, fails}, redis: cell{goesOn, person},
			why: "Of a release that brings pre-migrations: once they are applied what says 1 says 6 (they remain and are named), or 7 while the node or the database cannot be asked how far they came; and a proxy is needed to see what users feel. A unit at work goes on whatever happens to the link; see the runbook.",
		},
		{
			name: "roll sidekiq", step: "roll sidekiq scotty",
			rows: []hostRow{
				{where: own, host: "scotty", cells: away(cell{waits, person}, rolledFull, ok)},
				{where: peer, host: "decker", cells: away(cell{waits, returns + either + person}, rolledFull, ok)},
				keeperRow(person), proxyLater,
			},
			database: cell{waits, returns + either + person}, redis: cell{waits, person},
			why: "A powered-off worker loses the jobs that it had in hand (Sidekiq's own rule); a reboot in good order loses none.",
		},
		{
			name: "roll web", step: "roll web kirk",
			rows: []hostRow{
				{where: own, host: "kirk", cells: away(cell{waits, person}, rolledFull, ok)},
				{where: peer, host: "spock", cells: away(cell{waits, returns + either + person}, rolledFull, ok)},
				keeperRow(person), proxyNeeded,
			},
			database: cell{waits, returns + either + person}, redis: cell{waits, returns + either + person},
			why: "No node is taken out while a proxy cannot be told so: it may still serve users who only refit cannot see. On the way back a proxy that stays away is passed over, and named.",
		},
		{
			name: "soak", step: "soak",
			rows: []hostRow{
				{where: own, host: "kirk", cells: away(cell{waits, person}, ok, ok)},
				none(peer, all),
				keeperRow(person),
				{where: proxy, host: "sulu", cells: away(cell{waits, returns}, ok, ok)},
			},
			database: cell{waits, returns + either + person}, redis: cell{waits, person},
			why: "A web node that stays away forbids to take its peer out, so what is on the new release stays there.",
		},
		{
			name: "post-migrate", step: "post-migrate",
			rows: []hostRow{
				{where: own, host: "scotty", cells: away(cell{waits, person}, ok, ok)},
				{where: peer, host: "kirk", cells: away(ok, ok, ok)},
				keeperRow(person), proxyIdle,
			},
			database: cell{waits, person}, redis: ok,
			why: "Of a release that brings post-migrations every host must answer before they begin: what says on for a host that is away says wait, and 7 if it stays. Once they have begun there is only forward: wait, or 7.",
		},
		{
			name: "search", step: "search",
			rows:     []hostRow{idle(own, "scotty"), none(peer, "one node is asked"), keeperRow(person), proxyIdle},
			database: ok, redis: ok,
			why: "Search never fails an upgrade that is done: what could not be brought up to date is named with its command.",
		},
		{
			name: "record", step: "record",
			rows: []hostRow{
				{where: own, host: "uhura", cells: away(cell{waits, person}, cell{goesOn + either + person, person}, ok)},
				none(peer, "one keeper"),
				none(keeper, "it is its host"), proxyIdle,
			},
			database: ok, redis: ok,
			why: "Every node runs the new release; `refit resume` writes it down.",
		},
		{
			name: "prune", step: "prune",
			rows:     []hostRow{idle(own, "kirk"), none(peer, all), keeperRow(person), proxyIdle},
			database: ok, redis: ok,
			why: "Old releases stay where a node is away; the next upgrade removes them.",
		},
	}
}
