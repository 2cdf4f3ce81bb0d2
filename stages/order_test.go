package stages

import (
	"slices"
	"testing"

	"vmst.io/refit/hosts"
)

func TestTheUnhealthyNodeIsRolledFirstAndTheSchedulersLast(t *testing.T) {
	tier := Fleet{worker("decker", "scheduler"), worker("scotty", "push"), worker("sulu", "pull")}
	got := names(rollOrder(tier, map[string]bool{"sulu": true, "decker": true}))
	if want := []string{"sulu", "scotty", "decker"}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

func TestMigrationsRunAwayFromTheScheduler(t *testing.T) {
	d := Deps{Fleet: Fleet{worker("decker", "scheduler"), worker("scotty", "push")}}
	if got := d.migrator().Name; got != "scotty" {
		t.Errorf("on %s", got)
	}
}

func worker(name string, queues ...string) Node {
	return Node{Host: hosts.Host{Name: name, Roles: []hosts.Role{hosts.Sidekiq}}, Workers: []Worker{{Unit: name + ".service", Queues: queues}}}
}
