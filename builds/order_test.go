package builds_test

import (
	"testing"

	"vmst.io/refit/builds"
)

func TestTheTierThatMustKnowAJobClassIsRolledFirst(t *testing.T) {
	for name, test := range map[string]struct {
		added, removed []string
		sidekiqFirst   bool
	}{
		"no class comes or goes": {nil, nil, true},
		"a class is added":       {[]string{"A"}, nil, true},
		"one comes, one goes":    {[]string{"A"}, []string{"B"}, true},
		"a class is removed":     {nil, []string{"B"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := builds.SidekiqFirst(test.added, test.removed); got != test.sidekiqFirst {
				t.Errorf("sidekiq first: %v", got)
			}
		})
	}
}
