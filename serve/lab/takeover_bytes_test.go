package lab_test

import (
	"fmt"
	"testing"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	omniinfra "github.com/siderolabs/omni/client/pkg/infra"
	"google.golang.org/protobuf/encoding/protowire"
)

// The existing provider's resources as bytes, written from the table of their
// field numbers and not by our own generated code, which is to be judged.

// field is one field of a message: a string, an unsigned number, or a message.
type field struct {
	number protowire.Number
	value  any
}

// encode leaves out what is zero, as proto3 does.
func encode(fields ...field) []byte {
	var b []byte

	for _, f := range fields {
		switch v := f.value.(type) {
		case string:
			if v != "" {
				b = protowire.AppendString(protowire.AppendTag(b, f.number, protowire.BytesType), v)
			}
		case int:
			if v != 0 {
				b = protowire.AppendVarint(protowire.AppendTag(b, f.number, protowire.VarintType), uint64(v)) //nolint:gosec // positive
			}
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, f.number, protowire.BytesType), v)
		default:
			panic(fmt.Sprintf("no such kind of field: %T", v))
		}
	}

	return b
}

// shape is the table: of each message's field numbers what they hold, "" a string,
// 0 a number, or a message of that shape.
type shape map[protowire.Number]any

func shapes() map[string]shape {
	timestamp := shape{1: 0, 2: 0}

	return map[string]shape{
		"BMCConfiguration": {1: shape{1: "", 2: 0, 3: "", 4: ""}, 2: shape{1: ""}, 3: 0},
		"MachineStatus":    {1: 0, 2: 0, 4: 0},
		"WipeStatus":       {1: "", 2: 0, 3: 0, 4: ""},
		"RebootStatus":     {1: "", 2: timestamp},
		"PowerOperation":   {1: 0, 2: timestamp, 3: "", 4: ""},
		"TLSConfig":        {1: "", 2: ""},
	}
}

// ours is the least number of a field that the existing provider does not know.
const ours = 100

// decode reads a message by its shape: numbers like "1" or "1.4" to what they hold.
// A number of the existing provider's that is not in the table is an error.
func decode(t *testing.T, what string, b []byte, s shape, prefix string, into map[string]any) {
	t.Helper()

	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("%s: %v", what, protowire.ParseError(n))
		}

		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			t.Fatalf("%s: field %d: %v", what, number, protowire.ParseError(size))
		}

		value, path := b[n:n+size], fmt.Sprint(prefix, number)
		b = b[n+size:]

		switch want := s[number].(type) {
		case string:
			text, n := protowire.ConsumeString(value)
			if kind != protowire.BytesType || n < 0 {
				t.Errorf("%s: field %s has wire type %d, want a string", what, path, kind)
			}

			into[path] = text
		case int:
			v, n := protowire.ConsumeVarint(value)
			if kind != protowire.VarintType || n < 0 {
				t.Errorf("%s: field %s has wire type %d, want a number", what, path, kind)
			}

			into[path] = int(v) //nolint:gosec // a small one
		case shape:
			message, n := protowire.ConsumeBytes(value)
			if kind != protowire.BytesType || n < 0 {
				t.Errorf("%s: field %s has wire type %d, want a message", what, path, kind)
			}

			decode(t, what, message, want, path+".", into)
		default:
			if number < ours {
				t.Errorf("%s: field %s is not in the table", what, path)
			}
		}
	}
}

// stored is a resource of the provider's own as it lies in Omni.
type stored struct {
	Type       string   `json:"type"` // without the provider's suffix
	ID         string   `json:"id"`
	Owner      string   `json:"owner"`
	Finalizers []string `json:"finalizers,omitempty"`
	Spec       []byte   `json:"spec"`
}

// resource turns bytes into what a state takes, by no type of ours.
func (s stored) resource(t *testing.T) *protobuf.Resource {
	t.Helper()

	r, err := protobuf.Unmarshal(&v1alpha1.Resource{
		Metadata: &v1alpha1.Metadata{
			Namespace: omniinfra.ResourceNamespace(provider), Type: omniinfra.ResourceType(s.Type, provider), Id: s.ID,
			Version: "1", Phase: "running", Owner: s.Owner, Finalizers: s.Finalizers,
		},
		Spec: &v1alpha1.Spec{ProtoSpec: s.Spec},
	})
	if err != nil {
		t.Fatal(err)
	}

	return r
}
