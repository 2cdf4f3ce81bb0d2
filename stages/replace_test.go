package stages

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// born is the droplet that a run made.
func (n *nursery) born() cloud.Droplet {
	n.t.Helper()
	for _, x := range n.a.droplets {
		if n.a.born[x.ID] {
			return x
		}
	}
	n.t.Fatal("no droplet was made")
	return cloud.Droplet{}
}

// took asks whether the new machine has the old one's place, in every respect.
func (n *nursery) took(host string, old int) {
	n.t.Helper()
	x := n.born()
	at := x.Private.String()
	if n.a.made != 1 {
		n.t.Errorf("%d droplets were made", n.a.made)
	}
	if n.w.runs[host+"'"] != "v4.5.15" || n.w.runs[host] != "" || n.yml[host] != at || n.names[host+"'"] != host {
		n.t.Errorf("runs %q, the old one %q; refit.yml has it at %s, not %s; it is called %q", n.w.runs[host+"'"], n.w.runs[host], n.yml[host], at, n.names[host+"'"])
	}
	if len(n.a.walls) > 0 || !slices.Contains(x.Tags, "prod") || slices.ContainsFunc(x.Tags, func(t string) bool { return strings.HasPrefix(t, cloud.ExpiryPrefix) }) {
		n.t.Errorf("firewalls %v, tags %q", n.a.walls, x.Tags)
	}
	if !slices.Equal(n.known[at], []string{"own key of " + host + "'"}) {
		n.t.Errorf("known_hosts has %q for it", n.known[at])
	}
	for _, was := range n.a.droplets {
		if was.ID != old {
			continue
		}
		if _, expires := cloud.Expiry(was.Tags); was.Status != "off" || !expires || !cloud.Ours(was.Tags, "lab", cloud.ForReplacement) {
			n.t.Errorf("the old one is %s and has the tags %q", was.Status, was.Tags)
		}
	}
}

// inProxies are the addresses that both proxies send requests to.
func (n *nursery) inProxies() []string {
	n.t.Helper()
	var out []string
	for address, down := range n.stands["sulu"] {
		if other, ok := n.stands["chekov"][address]; !ok || other != down {
			n.t.Errorf("the proxies differ in %s", address)
		}
		if !down {
			out = append(out, address)
		}
	}
	slices.Sort(out)
	return out
}

func TestALostWebNodesPlaceIsTaken(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		old := n.lose("spock")
		f := n.conceive(BirthRequest{Host: "spock"})
		if f.Birth.Old.State != OldGone || f.Birth.Size != "s-2vcpu-4gb" || f.Birth.Of != "kirk" {
			t.Errorf("%+v", f.Birth)
		}
		if res := n.run(&dying{left: 1000}, f, false); res.Status != pipeline.Done {
			t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
		}
		n.took("spock", old)
		if got := n.inProxies(); !slices.Equal(got, []string{"10.77.0.21", n.yml["spock"]}) && !slices.Equal(got, []string{n.yml["spock"], "10.77.0.21"}) {
			t.Errorf("the proxies have %q", got)
		}
		if len(n.stands["sulu"]) != 2 || n.known["10.77.0.22"] != nil || !slices.Contains(n.known[ImageKey("spock")], "key of spock") {
			t.Errorf("left of the old one: %v, %v", n.stands, n.known)
		}
	})
}

// lose takes a host's machine out of the account, and off the world.
func (n *nursery) lose(host string) (was int) {
	was = n.a.id(host)
	n.a.droplets = slices.DeleteFunc(n.a.droplets, func(x cloud.Droplet) bool { return x.ID == was })
	n.w.cut[host], n.w.runs[host] = true, ""
	return was
}

func TestTheSchedulersLostNodeIsReplacedOnceTheAccountProvesItGone(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		n.w.d.Cloud.Droplets = map[string]int{"decker": n.lose("decker")}
		if res := n.run(&dying{left: 1000}, n.conceive(BirthRequest{Host: "decker"}), false); res.Status != pipeline.Done {
			t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
		}
		n.took("decker", 0)
	})
}

func TestAMachineThatIsThereAndDoesNotAnswerIsSwitchedOffFirst(t *testing.T) {
	for _, host := range []string{"spock", "decker"} {
		inBirth(t, func(t *testing.T, n *nursery) {
			old := n.a.id(host)
			n.w.cut[host] = true // and works on
			if res := n.run(&dying{left: 1000}, n.conceive(BirthRequest{Host: host}), false); res.Status != pipeline.Done {
				t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
			}
			n.took(host, old)
			if done := n.w.done(); strings.Index(done, host+": power_off") > strings.Index(done, host+"': permit") {
				t.Errorf("done: %s", done)
			}
		})
	}
}

func TestAWebNodeThatServesIsTakenOutWhenTheNewOneServes(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		old := n.a.id("spock")
		f := n.conceive(BirthRequest{Host: "spock"})
		if res := n.run(&dying{left: 1000}, f, false); res.Status != pipeline.Done {
			t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
		}
		n.took("spock", old)
		done := n.w.done()
		if up, down := strings.Index(done, n.yml["spock"]+" up"), strings.Index(done, "10.77.0.22 down"); up < 0 || down < up {
			t.Errorf("done: %s", done)
		}
	})
}

func TestTheSchedulersNodeIsProvenOffBeforeItsPlaceIsTaken(t *testing.T) {
	for name, deaf := range map[string]bool{"it shuts down": false, "its plug is pulled": true} {
		t.Run(name, func(t *testing.T) {
			inBirth(t, func(t *testing.T, n *nursery) {
				n.a.deaf = deaf
				old := n.a.id("decker")
				if res := n.run(&dying{left: 1000}, n.conceive(BirthRequest{Host: "decker"}), false); res.Status != pipeline.Done {
					t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
				}
				n.took("decker", old)
				want := []string{"decker': switch to v4.5.15", "decker: kill TSTP", "decker: stop", "decker: shutdown", "decker': permit", "decker': start"}
				if deaf {
					want = slices.Insert(want, 4, "decker: power_off")
				}
				didAll(t, n.w, want...)
			})
		})
	}
}

func TestNoSchedulerStartsWhileTheAccountDoesNotSayThatTheOldOneIsOff(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		f := n.conceive(BirthRequest{Host: "decker"})
		n.a.fails["Power shutdown"], n.a.fails["Power power_off"] = errors.New("the rack is dark"), errors.New("the rack is dark")
		res := n.run(&dying{left: 1000}, f, false)
		if n.w.runs["decker'"] != "" || strings.Contains(n.w.done(), "decker': permit") {
			t.Errorf("%s: %v; done: %s", res.Status, res.Err, n.w.done())
		}
	})
}

func TestANodeIsAddedBesideItsTier(t *testing.T) {
	for tier, like := range map[string]string{"web": "kirk", "sidekiq": "scotty"} {
		t.Run(tier, func(t *testing.T) {
			inBirth(t, func(t *testing.T, n *nursery) {
				f := n.conceive(BirthRequest{Tier: tier, Name: "sulak"})
				if tier == "sidekiq" && f.Birth.Like != like || f.Birth.Old != nil {
					t.Errorf("%+v", f.Birth)
				}
				if tier == "sidekiq" { // its workers are not those of any node so far
					t.Skip("the world knows no workers of other names")
				}
				if res := n.run(&dying{left: 1000}, f, false); res.Status != pipeline.Done {
					t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
				}
				if got := n.inProxies(); len(got) != 3 || n.yml["sulak"] != n.born().Private.String() {
					t.Errorf("%q, %v", got, n.yml)
				}
			})
		})
	}
}

// kills runs it to its end, killed after so many saves of its journal, then resumed.
func (n *nursery) kills(f *Facts, saves int) (res pipeline.Result, killed bool) {
	shelf := &dying{left: saves}
	res = n.run(shelf, f, false)
	for range 5 {
		if res.Status != pipeline.Interrupted && res.Status != pipeline.LostJournal {
			return res, killed
		}
		killed = true
		again := &dying{left: 1000, oneShelf: shelf.oneShelf}
		res, shelf = n.run(again, f, false), again
	}
	return res, killed
}

func TestAReplacementThatIsKilledAnywhereIsGoneOnWith(t *testing.T) {
	for _, host := range []string{"spock", "decker"} {
		for saves, ended := 1, false; !ended && saves < 60; saves++ {
			inBirth(t, func(t *testing.T, n *nursery) {
				old := n.a.id(host)
				res, killed := n.kills(n.conceive(BirthRequest{Host: host}), saves)
				if res.Status != pipeline.Done {
					t.Fatalf("killed after %d saves: %s at %s: %v", saves, res.Status, res.Step, res.Err)
				}
				n.took(host, old)
				ended = !killed
			})
			if t.Failed() {
				t.Fatalf("%s, %d saves", host, saves)
			}
		}
	}
}

func TestAProcessThatDiesAfterADeedDoesItNoSecondTime(t *testing.T) {
	for host, deeds := range map[string][]string{
		"spock":  {"Create", "hostkeys.make", "unlearn", "learn", "hostkeys.use", "permit.write", "units", "upstream.join", "upstream.set", "upstream.leave", "write"},
		"decker": {"Create", "permit.write", "units", "write"},
	} {
		for _, deed := range deeds {
			t.Run(host+" "+deed, func(t *testing.T) {
				inBirth(t, func(t *testing.T, n *nursery) {
					old := n.a.id(host)
					n.dies = deed
					f := n.conceive(BirthRequest{Host: host})
					shelf := &dying{left: 1000}
					res := n.run(shelf, f, false)
					if n.dies != "" || res.Status == pipeline.Done {
						t.Fatalf("it was not killed: %s", res.Status)
					}
					if res = n.run(shelf, f, false); res.Status != pipeline.Done {
						t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
					}
					n.took(host, old)
				})
			})
		}
	}
}

// asBefore asks whether the old machine has its place again, and the new one none.
func (n *nursery) asBefore(host string, old int) {
	n.t.Helper()
	for _, x := range n.a.droplets {
		switch {
		case n.a.born[x.ID]:
			if at, ok := latest(x.Tags); x.Status != "off" || !ok || at == "" || n.w.runs[host+"'"] != "" {
				n.t.Errorf("the new one is %s and has the tags %q", x.Status, x.Tags)
			}
			if p := n.w.permits[host+"'"]; p.Refused == "" && len(n.a.walls) == 0 {
				n.t.Error("the new one has its permit yet, and no firewall")
			}
			for proxy, stands := range n.stands {
				if _, ok := stands[x.Private.String()]; ok {
					n.t.Errorf("%s has the new one's address yet", proxy)
				}
			}
		case x.ID == old:
			if _, expires := cloud.Expiry(x.Tags); x.Status != "active" || expires || n.w.runs[host] != "v4.5.15" {
				n.t.Errorf("the old one is %s, runs %q and has the tags %q", x.Status, n.w.runs[host], x.Tags)
			}
		}
	}
	if len(n.inProxies()) != 2 && host == "spock" || n.yml[host] != "10.77.0."+map[string]string{"spock": "22", "decker": "32"}[host] {
		n.t.Errorf("proxies %q, refit.yml %v", n.inProxies(), n.yml)
	}
}

func latest(tags []string) (string, bool) {
	for _, t := range tags {
		if strings.HasPrefix(t, cloud.ExpiryPrefix) {
			return t, true
		}
	}
	return "", false
}

func TestAReplacementIsTakenBack(t *testing.T) {
	for _, host := range []string{"spock", "decker"} {
		t.Run(host, func(t *testing.T) {
			inBirth(t, func(t *testing.T, n *nursery) {
				old := n.a.id(host)
				f, shelf := n.conceive(BirthRequest{Host: host}), &dying{left: 1000}
				if res := n.run(shelf, f, false); res.Status != pipeline.Done {
					t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
				}
				if res := n.run(shelf, f, true); res.Status != pipeline.Undone {
					t.Fatalf("%s at %s: %v, %v", res.Status, res.UndoStep, res.Err, res.UndoErr)
				}
				n.asBefore(host, old)
			})
		})
	}
}

func TestANodeThatDoesNotComeUpLeavesTheOldOneInItsPlace(t *testing.T) {
	for _, host := range []string{"spock", "decker"} {
		for name, bad := range map[string]func(*nursery){
			"it shows another key":         func(n *nursery) { n.known["10.77.0.21"], n.known["10.77.0.31"] = []string{"a"}, []string{"b"} },
			"its units do not start":       func(n *nursery) { n.w.fails[host+"' start"] = errors.New("exit status 1") },
			"it does not boot the release": func(n *nursery) { n.w.unbootable = host + "'" },
			"its page is another's":        func(n *nursery) { n.w.sick[host+"'"] = "answers 500" },
			"its manifest is another's": func(n *nursery) {
				n.w.proved = map[string]node.VerifyOut{host + "' v4.5.15": {Differences: []node.Difference{{Path: "x", What: "content"}}}}
			},
		} {
			if host == "decker" && strings.Contains(name, "page") {
				continue
			}
			t.Run(fmt.Sprintf("%s, %s", host, name), func(t *testing.T) {
				inBirth(t, func(t *testing.T, n *nursery) {
					old := n.a.id(host)
					f := n.conceive(BirthRequest{Host: host})
					bad(n)
					res := n.run(&dying{left: 1000}, f, false)
					if res.Status != pipeline.Undone {
						t.Fatalf("%s at %s: %v, %v", res.Status, res.Step, res.Err, res.UndoErr)
					}
					n.asBefore(host, old)
				})
			})
		}
	}
}

func TestTheOldOneIsDestroyedOnlyIfAskedFor(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		old := n.a.id("spock")
		if res := n.run(&dying{left: 1000}, n.conceive(BirthRequest{Host: "spock", Destroy: true}), false); res.Status != pipeline.Done {
			t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
		}
		if want := fmt.Sprintf("droplet %d", old); !slices.Contains(n.a.gone, want) || n.w.runs["spock'"] == "" {
			t.Errorf("destroyed: %q", n.a.gone)
		}
	})
}

func TestWhatCannotBeWrittenIsSaid(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		n.cannot = "write it by hand"
		f := n.conceive(BirthRequest{Host: "spock"})
		if res := n.run(&dying{left: 1000}, f, false); res.Status != pipeline.Done || f.Birth.Written || !n.w.heard("write it by hand") {
			t.Errorf("%s: %v", res.Status, res.Err)
		}
	})
}

func TestWhatStandsAgainstABirthIsSaidBefore(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(*nursery)
		r    BirthRequest
		says string
	}{
		"no such node":         {func(*nursery) {}, BirthRequest{Host: "khan"}, "no web or Sidekiq node khan"},
		"a name twice":         {func(*nursery) {}, BirthRequest{Tier: "web", Name: "kirk"}, "a host kirk already"},
		"no golden image":      {func(n *nursery) { n.a.images = nil }, BirthRequest{Host: "spock"}, "no golden image of the tier web"},
		"no such image":        {func(*nursery) {}, BirthRequest{Host: "spock", Image: 4}, "no image 4"},
		"another tier's image": {func(*nursery) {}, BirthRequest{Host: "spock", Image: 901}, "image 901 is of scotty, which is not of the tier web"},
		"nobody's image":       {func(n *nursery) { n.a.images[0].Tags = nil }, BirthRequest{Host: "spock", Image: 900}, "does not say of which node"},
		"another region":       {func(n *nursery) { n.a.images[0].Regions = []string{"ams3"} }, BirthRequest{Host: "spock"}, "not in tor1"},
		"nobody knows that it is gone": {func(n *nursery) {
			n.lose("decker")
		}, BirthRequest{Host: "decker"}, "nobody can tell that its machine is gone"},
		"the peer is ill": {func(n *nursery) { n.w.sick["kirk"] = "answers 500" }, BirthRequest{Host: "spock"}, "kirk does not serve well"},
		"not how":         {func(n *nursery) { n.w.d.Births = nil }, BirthRequest{Host: "spock"}, "cloud.born.from"},
	} {
		t.Run(name, func(t *testing.T) {
			inBirth(t, func(t *testing.T, n *nursery) {
				c.bad(n)
				_, refused, err := n.w.d.Conceive(t.Context(), c.r, n.w.say)
				if err != nil || !strings.Contains(strings.Join(refused, "\n"), c.says) || n.a.made > 0 || len(n.a.walls) > 0 {
					t.Errorf("%v, %q", err, refused)
				}
			})
		})
	}
}
