package cloudtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// read decodes the body; on false the refusal is written. A field that the description
// lacks, a wrong type, and null where nullable does not name the field are refused.
func (x *exchange) read(into any, nullable ...string) bool {
	kind, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		x.fail(http.StatusUnsupportedMediaType, "unsupported_media_type", "the body is not said to be application/json")
		return false
	}
	d := json.NewDecoder(bytes.NewReader(x.sent))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return x.unfit("the body is not as described: " + strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return x.unfit("more than one value in the body")
	}
	var raw any
	if err := json.Unmarshal(x.sent, &raw); err != nil {
		return x.unfit("the body is no JSON: " + err.Error())
	}
	if at := null(raw, "", nullable); at != "" {
		return x.unfit(at + " is null")
	}
	return true
}

// null finds a null that may not be, and tells where.
func null(v any, at string, may []string) string {
	switch v := v.(type) {
	case nil:
		return word(at, "the body")
	case map[string]any:
		for k, w := range v {
			if w == nil && slices.Contains(may, k) {
				continue
			}
			if found := null(w, strings.TrimPrefix(at+"."+k, "."), may); found != "" {
				return found
			}
		}
	case []any:
		for i, w := range v {
			if found := null(w, fmt.Sprintf("%s[%d]", at, i), may); found != "" {
				return found
			}
		}
	}
	return ""
}

var (
	tagForm  = regexp.MustCompile(`^[a-zA-Z0-9_:-]{1,255}$`)
	hostForm = regexp.MustCompile(`^[a-zA-Z0-9]?[a-z0-9A-Z.-]*[a-z0-9A-Z]$`)
	wallForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]+$`)
	netForm  = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// tags refuses names that no tag may have.
func (x *exchange) tags(all []string) bool {
	for _, t := range all {
		if !tagForm.MatchString(t) {
			return x.unfit(fmt.Sprintf("the tag %q has more than letters, digits, colons, dashes and underscores, or more than 255", t))
		}
	}
	return true
}

// textOrNumber is a field that may be either.
type textOrNumber struct {
	text string
	n    int
}

func (v *textOrNumber) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &v.text)
	}
	return json.Unmarshal(b, &v.n)
}
