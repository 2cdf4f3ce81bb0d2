package configs

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
)

// strictly decodes YAML whose every key is known. Its errors name the file and the
// line, and show no value of the text.
func strictly(at string, text []byte, into any) (err error) {
	defer func() {
		if p := recover(); p != nil { // a text that the YAML library trips over is no reason to die
			err = fmt.Errorf("%s is no YAML that can be read", at)
		}
	}()
	err = yaml.UnmarshalWithOptions(text, into, yaml.Strict())
	if err == nil {
		return nil
	}
	what := "this is not YAML as it should be here"
	if _, ok := errors.AsType[*yaml.UnknownFieldError](err); ok {
		what = "this key is not known here"
	} else if _, ok := errors.AsType[*yaml.DuplicateKeyError](err); ok {
		what = "this key stands here twice"
	} else if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		what = "this should be of another kind (" + e.DstType.String() + ")"
	}
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s", at, e.GetToken().Position.Line, what)
	}
	return fmt.Errorf("%s: %s", at, what)
}
