package notes_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
)

// held checks what must hold of any body at all.
func held(t *testing.T, body []byte) notes.Notes {
	n, err := notes.Parse(body)
	if err != nil {
		if !errors.Is(err, notes.ErrUnreadable) {
			t.Errorf("another error: %v", err)
		}
		return n
	}
	for _, fault := range claims(body, n) {
		t.Errorf("claimed, and not there: %s", fault)
	}
	if again := parse(t, body); !reflect.DeepEqual(n, again) {
		t.Errorf("read twice, differently:\n%+v\n%+v", n, again)
	}
	seen := map[string]bool{}
	for _, it := range notes.Judge(n, builds.Version{}) {
		if it.Name == "" || seen[it.Name] || it.Why == "" {
			t.Errorf("a bad or doubled name: %+v", it)
		}
		seen[it.Name] = true
	}
	return n
}

// FuzzAMangledBodyClaimsNothingThatIsNotThere: whatever a body holds, reading it ends, and what is
// claimed stands in it.
func FuzzAMangledBodyClaimsNothingThatIsNotThere(f *testing.F) {
	for _, body := range everyBody(f) {
		f.Add(body)
	}
	for _, body := range pathological() {
		f.Add([]byte(body(500)))
	}
	f.Fuzz(func(t *testing.T, body []byte) { held(t, body) })
}

// FuzzACutOrSplicedBodyClaimsNothingThatIsNotThere: two bodies are put together at any
// point, their lines reordered, dropped and doubled, and the whole is cut. What the start of
// it says, the whole of it says too.
func FuzzACutOrSplicedBodyClaimsNothingThatIsNotThere(f *testing.F) {
	all := everyBody(f)
	names := slices.Sorted(maps.Keys(all))
	for i := range names {
		f.Add(uint8(i), uint8(i+1), uint16(700), uint16(300), uint16(900), uint64(0))
		f.Add(uint8(i), uint8(i), uint16(9999), uint16(9999), uint16(500), uint64(i+1))
	}
	f.Fuzz(func(t *testing.T, a, b uint8, x, y, cut uint16, seed uint64) {
		first, second := all[names[int(a)%len(names)]], all[names[int(b)%len(names)]]
		body := string(first[:int(x)%(len(first)+1)]) + string(second[int(y)%(len(second)+1):])
		if seed != 0 {
			body = shuffled(body, seed)
		}
		if !strings.HasSuffix(body, "\n") {
			body += "\n"
		}
		if !utf8.ValidString(body) { // put together in the middle of a character
			return
		}
		whole := held(t, []byte(body))
		start := []byte(body)[:int(cut)%(len(body)+1)]
		for _, fault := range beyond(held(t, start), whole) {
			t.Errorf("the start claims %s, the whole does not\n%s\n=== cut ===\n%s", fault, start, body)
		}
	})
}

// shuffled reorders, drops and doubles lines.
func shuffled(body string, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, seed))
	lines := strings.SplitAfter(body, "\n")
	for range 1 + r.IntN(8) {
		i, j := r.IntN(len(lines)), r.IntN(len(lines))
		switch r.IntN(3) {
		case 0:
			lines[i], lines[j] = lines[j], lines[i]
		case 1:
			lines = slices.Delete(lines, i, i+1)
		default:
			lines = slices.Insert(lines, j, lines[i])
		}
		if len(lines) == 0 {
			return ""
		}
	}
	return strings.Join(lines, "")
}
