package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is a time of the week, by the clock on the wall: it opens at From on each of
// its days and closes at To, on the day after where To is not later than From.
type Window struct {
	// Days of the week on which it opens; none means every day.
	Days []time.Weekday
	// From and To are since midnight by the wall's clock, below 24 hours.
	From, To time.Duration
}

// ParseWindow reads "tue", "wed" …, "02:00" and "05:00".
func ParseWindow(days []string, from, to string) (Window, error) {
	var w Window
	for _, name := range days {
		day, ok := weekday(name)
		if !ok {
			return Window{}, fmt.Errorf("%q is no day of the week such as tue", name)
		}
		if !slices.Contains(w.Days, day) {
			w.Days = append(w.Days, day)
		}
	}
	var err error
	if w.From, err = ParseClock(from); err != nil {
		return Window{}, err
	}
	if w.To, err = ParseClock(to); err != nil {
		return Window{}, err
	}
	if w.From == w.To {
		return Window{}, fmt.Errorf("it opens and closes at %s: leave the windows out to begin at any time", from)
	}
	return w, nil
}

// weekday reads a day's name, short or whole.
func weekday(s string) (time.Weekday, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(s, d.String()) || strings.EqualFold(s, d.String()[:3]) {
			return d, true
		}
	}
	return 0, false
}

// ParseClock reads a time of the day, "02:00".
func ParseClock(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of the day such as 02:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// opens is the first moment from t on at which the window is open, by the clock of t's
// zone. Where that clock leaps over an hour, what would open in it opens with the next.
func (w Window) opens(t time.Time) time.Time {
	y, m, d := t.Date()
	// From yesterday's, which may reach into today, over two weeks, since a leap of the
	// clock may swallow the next one whole.
	for ahead := -1; ahead <= 14; ahead++ {
		start := at(y, m, d+ahead, w.From, t.Location())
		if len(w.Days) > 0 && !slices.Contains(w.Days, time.Date(y, m, d+ahead, 12, 0, 0, 0, t.Location()).Weekday()) {
			continue
		}
		last := d + ahead
		if w.To <= w.From {
			last++
		}
		end := at(y, m, last, w.To, t.Location())
		switch {
		case !start.Before(end): // the clock leaps over it
		case t.Before(start):
			return start
		case t.Before(end):
			return t
		}
	}
	return at(y, m, d+15, w.From, t.Location()) // no clock leaps twice in two weeks
}

func at(y int, m time.Month, d int, since time.Duration, zone *time.Location) time.Time {
	return time.Date(y, m, d, int(since/time.Hour), int(since%time.Hour/time.Minute), 0, 0, zone)
}
