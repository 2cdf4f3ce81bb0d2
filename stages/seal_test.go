package stages

import (
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// permit is what a node says of its permit: one that was never sealed, unless the test has
// it otherwise.
func (w *world) permit(n Node, in node.PermitIn) node.PermitOut {
	if p, ok := w.permits[n.Name]; ok {
		return p
	}
	return node.PermitOut{
		Instance: node.Instance{ID: n.Name + "-1", From: "credential"}, Refused: "sealed: this machine has no permit", Lacks: in.Units, Stale: []string{"50-refit-permit.conf"},
	}
}

// writePermit leaves a node sealed for itself.
func (w *world) writePermit(n Node, in node.PermitIn) node.PermitOut {
	id := w.permit(n, in).Instance
	p := node.PermitOut{Instance: id, Permit: &node.Permit{Instance: id.ID, At: morning}}
	w.permits[n.Name] = p
	p.Wrote = []string{"/var/lib/refit/permit"}
	return p
}

// clone makes a node one that was set up from another's image.
func (w *world) clone(host string) {
	p := w.writePermit(w.node(host), node.PermitIn{})
	p.Instance.ID, p.Refused = host+"-2", "sealed: the permit is for machine "+host+"-1, and this is "+host+"-2"
	w.permits[host] = p
}

func TestEveryNodeIsSealedOnceAndNothingIsRestarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := seal{w.d}
		for range 2 {
			if err := s.Run(t.Context(), w.say); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(w.deeds)
		did(t, w, "decker: permit, kirk: permit, scotty: permit, spock: permit")
		if err := s.Undo(t.Context(), w.say); err != nil || len(w.deeds) != 4 {
			t.Errorf("the way back: %v, %v", w.deeds, err)
		}
		for _, n := range w.d.Fleet.Apps() {
			if err := w.d.Sealed(t.Context(), n); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestANodeThatMayBeACloneIsRefusedAndNotSealed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		words  []string
	}{
		"another's permit": {
			func(w *world) { w.clone("kirk") },
			[]string{"kirk", "permit is for machine kirk-1, and it is kirk-2", "refit seal --host kirk", "switch it off"},
		},
		"one that nobody can read": {
			func(w *world) {
				w.permits["kirk"] = node.PermitOut{Instance: node.Instance{ID: "kirk-1"}, PermitError: "unexpected end of JSON input", Refused: "sealed"}
			},
			[]string{"kirk: its permit cannot be read", "unexpected end", "refit seal --host kirk"},
		},
	} {
		words := c.words
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c.change(w)
				w.d.Seal = true
				failsWith(t, (preflight{w.d, w.f}).Run(t.Context(), w.say), words...)
				failsWith(t, (seal{w.d}).Run(t.Context(), w.say), words...)
				if slices.Contains(w.deeds, "kirk: permit") {
					t.Error("it was sealed all the same")
				}
				failsWith(t, w.d.Sealed(t.Context(), w.node("kirk")), "kirk is not sealed", "refit seal --host kirk")
				if why, err := w.d.Foreign(t.Context(), w.node("kirk")); err != nil || why == "" {
					t.Errorf("%q, %v", why, err)
				}
				// A person who names it says that it is the right one.
				if err := w.d.WritePermit(t.Context(), w.node("kirk"), w.say); err != nil || w.d.Sealed(t.Context(), w.node("kirk")) != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAMachineThatCannotBeToldFromItsCloneIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Seal = true
		w.permits["scotty"] = node.PermitOut{InstanceError: "cannot tell which machine this is: it is a container"}
		failsWith(t, (preflight{w.d, w.f}).Run(t.Context(), w.say), "scotty: cannot tell which machine this is", "an image of it could not be told from it")
	})
}

func TestAUnitThatDiesWhileItsNodeIsSealedIsAnError(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.meddled = "scotty"
		failsWith(t, (seal{w.d}).Run(t.Context(), w.say), "scotty: mastodon-sidekiq", "process 100 before", "has 0 now")
	})
}

func TestOnlyAFleetWithImagesIsSealed(t *testing.T) {
	d, f := someDeps(), someFacts(t)
	has := func() bool {
		return slices.ContainsFunc(Upgrade("u", d, f).Steps, func(s pipeline.Step) bool { return s.Stage.Name() == "seal" })
	}
	if has() || d.factsIn(d.webs()[0], nil, nil).Permit != nil {
		t.Error("a fleet without images is sealed")
	}
	d.Seal = true
	if p := Upgrade("u", d, f); !has() || p.Steps[1].Stage.Name() != "seal" || p.Steps[1].Switches || !Prepares("seal") {
		t.Error("a fleet with images is not sealed right after the preflight")
	}
	if d.factsIn(d.webs()[0], nil, nil).Permit == nil || d.factsIn(d.proxies()[0], nil, nil).Permit != nil {
		t.Error("nodes that run Mastodon are asked for their permit, and no others")
	}
}

func TestDoctorSaysWhatIsNotSealedYetAndWhatNoSealHolds(t *testing.T) {
	l := goodLook(t)
	l.host("kirk", func(f *node.Facts) {
		f.Permit = &node.PermitOut{Instance: node.Instance{ID: "1"}, Refused: "sealed: this machine has no permit", Lacks: []string{"mastodon-web.service"}}
	})
	l.host("scotty", func(f *node.Facts) {
		f.Permit = &node.PermitOut{Instance: node.Instance{ID: "2"}, Permit: &node.Permit{Instance: "2"}, Beside: []string{"cron, by 2 lines of /etc/cron.d/mastodon"}}
	})
	refused, said := l.d.Fleetwide(l.v)
	compareLines(t, "refused", refused, nil)
	compareLines(t, "said", said, []string{
		"kirk is not sealed: sealed: this machine has no permit; systemd starts mastodon-web.service without asking…refit seal --host kirk",
		"scotty: these start Mastodon's code by themselves…/etc/cron.d/mastodon…held",
	})
}

func TestAUnitThatThePermitHoldsBackFailsTheStepAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fails["scotty start"] = node.Failf(node.CodeSealed, "sealed: the permit is for machine scotty-1, and this is scotty-2")
		began := time.Now()
		err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Run(t.Context(), w.say)
		failsWith(t, err, "sealed: the permit is for machine scotty-1", "refit seal --host scotty")
		if took := time.Since(began); took > w.d.Waits.Boot/2 {
			t.Errorf("after %s", took)
		}
		if strings.Contains(strings.Join(w.said, "\n"), "works with") {
			t.Error("the gate was asked")
		}
	})
}
