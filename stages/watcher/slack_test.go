package watcher

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/builds/policy"
	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/pipeline/report/slacktest"
)

// inSlack is a world whose people read Slack.
type inSlack struct {
	*world
	slack *slacktest.Server
	state string
	tells *report.Slack
}

func (i *inSlack) Release(r report.Release) {
	i.world.Release(r)
	i.tells.Release(r)
}
func (i *inSlack) Notice(key, text string) { i.tells.Notice(key, text) }

// process is a watcher's whole life: one look, with a connection of its own to Slack, of
// which only what lies on the disk outlives it.
func (i *inSlack) process(life time.Duration) {
	i.Helper()
	var err error
	i.tells, err = report.NewSlack(report.SlackOptions{
		Token: i.slack.Token(), Channel: i.slack.Channel(), Client: i.slack.Client(), Base: i.slack.Base(), State: i.state,
	})
	if err != nil {
		i.Fatal(err)
	}
	i.o.Teller = i
	i.look()
	time.Sleep(life)
	i.tells.Close(0)
}

// roots are the messages that stand in the channel itself.
func (i *inSlack) roots() []slacktest.Message {
	return slices.DeleteFunc(i.slack.Messages(), func(m slacktest.Message) bool { return m.Thread != "" })
}

func playInSlack(t *testing.T, tell func(i *inSlack)) {
	t.Helper()
	dir := t.TempDir()
	play(t, func(w *world) {
		i := &inSlack{world: w, slack: slacktest.New(slacktest.Options{}), state: filepath.Join(dir, "slack-releases.json")}
		tell(i)
		if v := i.slack.Violations(); len(v) > 0 {
			w.Errorf("Slack's rules were broken: %v", v)
		}
	})
}

func TestAReleaseIsOneMessageInSlackHoweverOftenTheWatcherIsRestarted(t *testing.T) {
	playInSlack(t, func(i *inSlack) {
		i.o.Policy.Acts[policy.Security] = policy.Ask
		i.process(time.Minute)
		i.publish("v4.6.5", saying("v4.6.5", security))
		for n := range 50 { // some live long enough to tell, some do not
			i.process(time.Duration(n%5) * time.Second)
			time.Sleep(time.Hour)
		}
		i.approved["hash-of-v4.6.5"] = &Approval{Hash: "hash-of-v4.6.5", By: "michael", Until: time.Now().Add(time.Hour)}
		i.process(time.Minute)
		i.process(time.Minute)
		i.ran("v4.6.5")
		roots := i.roots()
		if len(roots) != 1 {
			i.Fatalf("%d messages in the channel: %+v", len(roots), roots)
		}
		m := roots[0]
		if !strings.Contains(m.Said[0], "🔒 Mastodon v4.6.5") || !strings.Contains(m.Said[0], "waits for an approval") || !strings.Contains(m.Text, "✅") || m.Edits() < 10 {
			i.Errorf("edited %d times, from %q to %q", m.Edits(), m.Said[0], m.Text)
		}
		seen := map[string]int{}
		for _, one := range i.slack.Messages() {
			seen[one.Key]++
			if seen[one.Key] > 1 {
				i.Errorf("%s stands there twice: %q", one.Key, one.Text)
			}
		}
		var thread []string
		for _, one := range i.slack.Messages() {
			if one.Thread == m.TS {
				thread = append(thread, one.Text)
			}
		}
		all := strings.Join(thread, "\n")
		if len(thread) != 3 || !strings.Contains(all, "23 h left") || !strings.Contains(all, "5 h left") || !strings.Contains(all, "its deadline passed") {
			i.Errorf("reminders:\n%s", all)
		}
	})
}

// outage is three hours in which GitHub answers nothing of use.
func outage(how githubtest.Trouble) func(*inSlack) {
	return func(i *inSlack) {
		i.process(time.Minute)
		how.Times = -1
		i.Trouble(how)
		for range 3 {
			i.process(time.Minute)
			time.Sleep(time.Hour)
		}
		i.Calm()
		i.process(time.Minute)
		i.process(time.Minute)
	}
}

func TestEachStoryStandsInSlackAsItHappened(t *testing.T) {
	seen := func(tags ...string) func(*inSlack) {
		return func(i *inSlack) {
			i.process(time.Minute)
			for _, tag := range tags {
				i.publish(tag)
			}
			i.process(time.Minute)
			i.process(time.Minute)
		}
	}
	for name, test := range map[string]struct {
		story func(*inSlack)
		// roots are what the channel's messages say, in their order, each in parts.
		roots [][]string
	}{
		"a first look at what is there": {seen(), nil},
		"a patch of three series on one day": {seen("v4.4.22", "v4.6.5", "v4.5.15"), [][]string{
			{"📦 Mastodon v4.6.5", "a release", "begins at ", "6h after its publication", "no migrations: it can be undone at any time", "v4.6.4"},
		}},
		"a patch that is run": {func(i *inSlack) {
			seen("v4.6.5")(i)
			time.Sleep(6 * time.Hour)
			i.process(time.Minute)
		}, [][]string{{"✅ Mastodon v4.6.5", "the fleet runs it"}}},
		"a security release": {func(i *inSlack) {
			i.o.Policy.Acts[policy.Security] = policy.Ask
			i.publish("v4.6.5", saying("v4.6.5", security))
			i.process(time.Minute)
		}, [][]string{{"🔒 Mastodon v4.6.5", "a security release", "GHSA-2345-cfgh-jmpq", "waits for an approval", "refit approve --to v4.6.5 --plan hash-of-v4.6.5"}}},
		"a release that is taken back": {func(i *inSlack) {
			i.process(time.Minute)
			id := i.publish("v4.6.5")
			i.process(time.Minute)
			i.Delete(followed, id)
			i.process(time.Minute)
		}, [][]string{{"✅ Mastodon v4.6.5", "upstream has taken it back"}}},
		"a tag that moved": {func(i *inSlack) {
			i.publish("v4.6.5")
			i.process(time.Minute)
			i.tag("v4.6.5", "something else")
			i.process(time.Minute)
		}, [][]string{{"📦 Mastodon v4.6.5", "is not begun", "the tag is not what it was"}, {"🛑 the tag is not what it was", "Find out why"}}},
		"a pre-release": {func(i *inSlack) {
			i.process(time.Minute)
			i.publish("v4.7.0-rc.1", func(r *githubtest.Release) { r.Prerelease = true })
			i.process(time.Minute)
		}, nil},
		"a limit that ends within the hour": {func(i *inSlack) {
			i.process(time.Minute)
			i.Exhaust(ghToken)
			i.process(time.Minute)
			time.Sleep(58*time.Minute + 30*time.Second)
			i.process(time.Minute)
		}, nil},
		"a secondary limit": {func(i *inSlack) {
			i.process(time.Minute)
			i.Limit(githubtest.Secondary{Status: 429, For: 10 * time.Minute, Named: true})
			i.process(time.Minute)
			time.Sleep(20 * time.Minute)
			i.process(time.Minute)
		}, nil},
		"an outage": {outage(githubtest.Outage(502, -1)), [][]string{
			{"⚠️ refit has had no answer from mastodon/mastodon since", "may not know of new releases"}, {"mastodon/mastodon answers again"},
		}},
		"slow answers": {outage(githubtest.Trouble{Wait: time.Hour}), [][]string{
			{"⚠️ refit has had no answer from mastodon/mastodon since"}, {"mastodon/mastodon answers again"},
		}},
		"a fleet that is silent": {func(i *inSlack) {
			i.process(time.Minute)
			i.away = errors.New("kirk is unreachable: what it runs is not known")
			i.publish("v4.6.5", saying("v4.6.5", security))
			i.process(time.Minute)
		}, [][]string{{"🔒 Mastodon v4.6.5", "is not begun", "kirk is unreachable"}}},
	} {
		t.Run(name, func(t *testing.T) {
			playInSlack(t, func(i *inSlack) {
				test.story(i)
				roots := i.roots()
				if len(roots) != len(test.roots) {
					i.Fatalf("%d messages in the channel, not %d: %+v", len(roots), len(test.roots), roots)
				}
				for n, parts := range test.roots {
					for _, part := range parts {
						if all := roots[n].Text + string(roots[n].Blocks); !strings.Contains(all, part) {
							i.Errorf("message %d does not say %q: %s", n+1, part, all)
						}
					}
				}
			})
		})
	}
}

func TestAnAlarmIsOneMessageInSlack(t *testing.T) {
	playInSlack(t, func(i *inSlack) {
		i.publish("v4.6.5")
		i.process(time.Minute)
		i.tag("v4.6.5", "something else")
		for range 5 {
			i.process(10 * time.Second)
			time.Sleep(time.Hour)
		}
		var alarms []string
		for _, m := range i.roots() {
			if strings.Contains(m.Text, "🛑") {
				alarms = append(alarms, m.Text)
			}
		}
		if len(alarms) != 1 || len(i.roots()) != 2 {
			i.Errorf("%q of %+v", alarms, i.roots())
		}
	})
}

func TestASlackThatIsAwayHoldsNothingUpAndIsToldAfterwards(t *testing.T) {
	playInSlack(t, func(i *inSlack) {
		i.slack.Down(true)
		i.publish("v4.6.5", saying("v4.6.5", security))
		began := time.Now()
		i.process(0)
		if took := time.Since(began); took > time.Second {
			i.Errorf("the look took %s", took)
		}
		i.ran("v4.6.5")
		i.slack.Down(false)
		i.process(time.Minute)
		if len(i.roots()) != 1 {
			i.Errorf("%+v", i.roots())
		}
	})
}

// Ten thousand looks, one every five minutes, are five weeks, with a release that waits
// for an approval all the while.
func TestTenThousandIdleLooksCostNothingAndLeaveNothing(t *testing.T) {
	looks, warm := 10_000, 1_000
	if raced {
		looks, warm = 500, 100
	}
	play(t, func(w *world) {
		for n := range 120 {
			w.publish(fmt.Sprintf("v4.5.%d", n))
		}
		w.o.Policy.Acts[policy.Patch] = policy.Ask
		w.o.Say = nil
		w.publish("v4.6.5")
		one := w.watcher()
		if _, err := one.Once(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
		first, seq := w.Count(ghToken), w.disk[stateID].seq
		var before uint64
		for n := range looks {
			if n == warm {
				before = heap()
			}
			time.Sleep(5 * time.Minute)
			if _, err := one.Once(w.Context(), nil); err != nil {
				w.Fatal(err)
			}
		}
		synctest.Wait()
		last, after := w.Count(ghToken), heap()
		w.Logf("%d looks: %d requests, %d of them 304, spent %d; heap %d KiB after %d, %d KiB at the end; saves %d", looks,
			last.Requests-first.Requests, last.NotModified-first.NotModified, last.Spent-first.Spent, before>>10, warm, after>>10, w.disk[stateID].seq-seq)
		if last.Spent != first.Spent || last.Refused != 0 || w.disk[stateID].seq > seq+2 {
			w.Errorf("before %+v, after %+v; %d saves", first, last, w.disk[stateID].seq-seq)
		}
		if grown := int64(after) - int64(before); grown > 512<<10 {
			w.Errorf("the heap grew by %d KiB", grown>>10)
		}
		if len(w.words) != 1 {
			w.Errorf("said %v", w.words)
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
