package cloudtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// load reads a description without its discriminators: their mappings name files that
// are not there.
func load(text []byte) (*openapi3.T, error) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	undiscriminated(v)
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromData(text)
}

func undiscriminated(v any) {
	switch v := v.(type) {
	case map[string]any:
		if d, ok := v["discriminator"].(map[string]any); ok && d["mapping"] != nil {
			delete(v, "discriminator")
		}
		for _, w := range v {
			undiscriminated(w)
		}
	case []any:
		for _, w := range v {
			undiscriminated(w)
		}
	}
}

// refusal holds an error to the description's form of errors.
func (d description) refusal(e Exchange) error {
	if !strings.HasPrefix(e.Header.Get("Content-Type"), "application/json") {
		return fmt.Errorf("an error of type %q", e.Header.Get("Content-Type"))
	}
	var v any
	if err := json.Unmarshal(e.Response, &v); err != nil {
		return err
	}
	form := d.doc.Components.Schemas["error"]
	if form == nil || form.Value == nil {
		return errors.New("the description has no form of errors")
	}
	return form.Value.VisitJSON(v)
}

// stricter lets objects have no properties but those that are described.
func stricter(doc *openapi3.T) {
	seen := map[*openapi3.Schema]bool{}
	content := func(c openapi3.Content) {
		for _, media := range c {
			strict(media.Schema, seen)
		}
	}
	for _, s := range doc.Components.Schemas {
		strict(s, seen)
	}
	for _, path := range doc.Paths.Map() {
		for _, op := range path.Operations() {
			if op.RequestBody != nil {
				content(op.RequestBody.Value.Content)
			}
			for _, r := range op.Responses.Map() {
				content(r.Value.Content)
			}
		}
	}
}

// strict closes a schema and what is in it. What is made of several parts that must all
// hold is put together first, since each part would refuse the others' properties.
func strict(ref *openapi3.SchemaRef, seen map[*openapi3.Schema]bool) {
	if ref == nil || ref.Value == nil || seen[ref.Value] {
		return
	}
	s := ref.Value
	seen[s] = true
	for _, several := range []openapi3.SchemaRefs{s.OneOf, s.AnyOf, s.AllOf} {
		for _, part := range several {
			strict(part, seen)
		}
	}
	for _, p := range s.Properties {
		strict(p, seen)
	}
	strict(s.Items, seen)
	if len(s.AllOf) > 0 {
		together(s)
	}
	if len(s.Properties) > 0 && len(s.OneOf)+len(s.AnyOf) == 0 {
		no := false
		s.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
	}
}

// together puts the parts of a schema into it; what only chooses stays a part.
func together(s *openapi3.Schema) {
	props := maps.Clone(s.Properties)
	if props == nil {
		props = openapi3.Schemas{}
	}
	var rest openapi3.SchemaRefs
	for _, part := range s.AllOf {
		p := part.Value
		plain := len(p.Properties) > 0 || len(p.Required) > 0 || p.IsEmpty() || p.Type.Is("object")
		if !plain || len(p.OneOf)+len(p.AnyOf) > 0 {
			rest = append(rest, part)
		}
		rest = append(rest, p.AllOf...)
		maps.Copy(props, p.Properties)
		s.Required = append(s.Required, p.Required...)
		s.Nullable = s.Nullable || p.Nullable
		if s.Type == nil {
			s.Type = p.Type
		}
	}
	s.Properties, s.AllOf = props, rest
}
