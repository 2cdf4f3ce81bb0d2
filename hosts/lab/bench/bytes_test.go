package bench

import (
	"strings"
	"testing"
)

func TestTheTableShowsTheMiddleRoundAndTheBestOfTheOthers(t *testing.T) {
	text := BytesTable([]Passage{
		{Way: "refit", Bytes: 3 << 20, Seconds: 9},
		{Way: "rsync", Bytes: 4 << 20, Seconds: 4},
		{Way: "tar.zst", Bytes: 80 << 20, Seconds: 2},
		{Way: "refit", Bytes: 3 << 20, Seconds: 3},
		{Way: "rsync", Bytes: 4 << 20, Seconds: 5},
		{Way: "tar.zst", Bytes: 80 << 20, Seconds: 2},
		{Way: "refit", Bytes: 3 << 20, Seconds: 1},
		{Way: "rsync", Bytes: 4 << 20, Seconds: 6},
		{Way: "tar.zst", Bytes: 80 << 20, Seconds: 2},
		{Way: "refit", Rate: 12_500_000, Bytes: 3 << 20, Seconds: 1},
	})
	for _, want := range []string{"no limit\n", "rsync            4.00 MiB     5.0 s", "refit: 0.75 times the bytes of rsync (aim: at most 1.2), 1.50 times the time of tar.zst", "100 Mbit/s\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	if strings.Count(text, "refit:") != 1 {
		t.Errorf("refit alone is compared with nobody:\n%s", text)
	}
}

func TestAFolderThatIsNoReleaseOrHasAnothersNameIsNotMeasured(t *testing.T) {
	b := Bytes{From: t.TempDir(), To: t.TempDir(), Work: t.TempDir()}
	if _, err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "is no built release") {
		t.Errorf("got %v", err)
	}
}
