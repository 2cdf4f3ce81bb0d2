package watcher

import (
	"errors"
	"testing"
	"time"
)

// What is asked at need alone would else be down for ever on a status page, and its next
// failure, weeks later, an hour old at once.
func TestASourceThatIsAskedAtNeedIsNoTroubleOnceItAnswersOrIsNotNeeded(t *testing.T) {
	for name, over := range map[string]func(w *world){
		"it answers":              func(w *world) { w.deaf = nil },
		"nobody needs it anymore": func(w *world) { w.running = "v4.6.5" },
	} {
		play(t, func(w *world) {
			w.publish("v4.6.5")
			w.deaf = errors.New("the line is cut")
			w.look()
			if w.polls[bySource] == nil {
				w.Fatal("the failure is not told")
			}
			over(w)
			w.after(5 * time.Minute)
			if err := w.polls[bySource]; err != nil {
				w.Errorf("%s: it is down all the same: %v", name, err)
			}
			w.publish("v4.6.6")
			w.deaf = errors.New("the line is cut again")
			w.after(2 * time.Hour)
			if w.polls[bySource] == nil || len(w.notices) > 0 {
				w.Errorf("%s: a failure of just now is told as an old one: %v, %q", name, w.polls[bySource], w.notices)
			}
		})
	}
}
