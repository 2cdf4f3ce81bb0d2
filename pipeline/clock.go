package pipeline

import "time"

// Clock tells the time and waits. Tests bring their own.
type Clock interface {
	Now() time.Time
	// After returns a channel that gets the time once, when d has passed, and a
	// function that frees what waits for it.
	After(d time.Duration) (<-chan time.Time, func())
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now, with its monotonic reading.
func (SystemClock) Now() time.Time { return time.Now() }

// After is a timer.
func (SystemClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
