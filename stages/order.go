package stages

import "slices"

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
