package stages

import "slices"

// sidekiqFirst decides which tier is rolled first, from the job classes that the
// release adds and removes. A job whose class a process does not know raises a
// NameError there and waits in the retry set. So the processes that work jobs
// off must know a class before anything enqueues it, and must know it until
// nothing does any more:
//
//   - classes added, perhaps others removed: Sidekiq first;
//   - classes only removed: web first, so that nothing enqueues them any more
//     when the last old Sidekiq goes;
//   - neither: Sidekiq first, as upstream's own instructions have it.
func sidekiqFirst(added, removed []string) bool {
	return len(added) > 0 || len(removed) == 0
}

// rollOrder is a tier's nodes in the order in which they are rolled: an unhealthy
// one first (while a healthy peer serves, it is missed least, and after it the
// peer has one), the scheduler's last, else as refit.yml has them.
func rollOrder(tier Fleet, unhealthy map[string]bool) Fleet {
	out := slices.Clone(tier)
	rank := func(n Node) int {
		switch {
		case n.Schedules():
			return 2
		case unhealthy[n.Name]:
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b Node) int { return rank(a) - rank(b) })
	return out
}
