package node

import (
	"slices"
	"testing"
)

func TestAHostWritesItsMemoryToItsDiskWhenAsked(t *testing.T) {
	if _, err := (Machine{}).sync(t.Context(), struct{}{}, nil, nil); err != nil {
		t.Error(err)
	}
	all := Machine{}.Verbs()
	i := slices.IndexFunc(all, func(v Verb) bool { return v.Name == "sync" })
	if i < 0 || all[i].Changes {
		t.Error("the verb is not there, or needs the fence though it changes nothing")
	}
}
