package notes_test

import (
	"testing"

	"vmst.io/refit/builds/notes"
)

func BenchmarkParse(b *testing.B) {
	body := bodies(b, folder)["alerts"]
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := notes.Parse(body); err != nil {
			b.Fatal(err)
		}
	}
}
