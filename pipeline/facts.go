package pipeline

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// marshalFacts gives the facts as JSON and proves that JSON loses nothing of
// them: by their type, and by reading them back.
func marshalFacts(facts any) (json.RawMessage, error) {
	if facts == nil {
		return nil, nil
	}
	v := reflect.ValueOf(facts)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, fmt.Errorf("cannot journal the facts: need a pointer to a struct, got %T", facts)
	}
	if err := survives(v.Type().Elem(), map[reflect.Type]bool{}); err != nil {
		return nil, fmt.Errorf("cannot journal the facts: %w", err)
	}
	b, err := json.Marshal(facts)
	if err != nil {
		return nil, fmt.Errorf("cannot journal the facts: %w", err)
	}
	fresh := reflect.New(v.Type().Elem())
	if err := json.Unmarshal(b, fresh.Interface()); err != nil {
		return nil, fmt.Errorf("cannot read back the facts: %w", err)
	}
	c, err := json.Marshal(fresh.Interface())
	if err != nil {
		return nil, fmt.Errorf("cannot read back the facts: %w", err)
	}
	if !bytes.Equal(b, c) {
		return nil, errors.New("cannot journal the facts: they do not survive JSON there and back")
	}
	return b, nil
}

// survives refuses types of which JSON would drop something without a word.
func survives(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	text := reflect.TypeFor[encoding.TextMarshaler]()
	if t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(text) {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return survives(t.Elem(), seen)
	case reflect.Map:
		return survives(t.Elem(), seen)
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer:
		return fmt.Errorf("a %s does not survive JSON", t)
	case reflect.Struct:
		for f := range t.Fields() {
			if !f.IsExported() && !f.Anonymous {
				return fmt.Errorf("field %s of %s is not exported", f.Name, t)
			}
			if f.Tag.Get("json") == "-" {
				return fmt.Errorf("field %s of %s is not kept", f.Name, t)
			}
			if err := survives(f.Type, seen); err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
	}
	return nil
}
