package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// comparisonKey is the length in bytes of a key for one comparison; see Keeper.ComparisonKey
// of hosts/keeper.
const comparisonKey = 32

// keyedEnv are the keyed hashes of a file's values, by name. The name is hashed with the
// value, so that two names with one value do not show it. Errors hold no line of the file.
func keyedEnv(file string, key []byte) (map[string]string, error) {
	if len(key) != comparisonKey {
		return nil, fmt.Errorf("the key of a comparison has %d bytes, and this request's %d", comparisonKey, len(key))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	name, value, quoted := "", "", byte(0)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if quoted == 0 {
			at := envLine.FindStringSubmatchIndex(line)
			if at == nil {
				continue // empty, or a comment
			}
			name, value = line[at[2]:at[3]], line[at[1]:]
		} else {
			value += "\n" + line
		}
		if quoted = openQuote(line, quoted); quoted == 0 {
			h := hmac.New(sha256.New, key)
			h.Write([]byte(name + "\x00" + unquote(strings.TrimSpace(value)))) // a hash takes everything
			out[name] = hex.EncodeToString(h.Sum(nil))
		}
	}
	if quoted != 0 {
		return nil, errors.New(file + ": a value in it has a quote that does not end")
	}
	return out, nil
}
