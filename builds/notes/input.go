package notes

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxBody is the longest body that is read, in bytes: GitHub takes 125,000 characters,
// of at most four bytes each.
const MaxBody = 512 << 10

// ErrUnreadable tells that something is no release's body.
var ErrUnreadable = errors.New("not the text of release notes")

// clean refuses what is no text, and makes line ends and the start of the text
// uniform. whole is false where the last line has no end, as after a cut.
func clean(body []byte) (src []byte, whole bool, err error) {
	switch {
	case len(body) > MaxBody:
		return nil, false, fmt.Errorf("%w: longer than %d KiB, which no body on GitHub can be", ErrUnreadable, MaxBody>>10)
	case !utf8.Valid(body):
		return nil, false, fmt.Errorf("%w: not UTF-8", ErrUnreadable)
	}
	src = bytes.TrimPrefix(body, []byte("\ufeff"))
	// GitHub's API gives \r\n for what was written in a browser.
	src = bytes.ReplaceAll(bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	for i, c := range string(src) {
		if unicode.IsControl(c) && c != '\n' && c != '\t' {
			return nil, false, fmt.Errorf("%w: a control character (%U) on line %d", ErrUnreadable, c, 1+bytes.Count(src[:i], []byte("\n")))
		}
	}
	if len(bytes.TrimSpace(src)) == 0 {
		return nil, false, fmt.Errorf("%w: empty", ErrUnreadable)
	}
	return src, bytes.HasSuffix(src, []byte("\n")), nil
}
