package omnisim

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	backing "github.com/cosi-project/runtime/pkg/state/impl/store"
	"github.com/cosi-project/runtime/pkg/state/impl/store/bolt"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"go.etcd.io/bbolt"
)

// lockTimeout bounds the wait for another process's lock on the file, for
// which bbolt would otherwise wait for ever.
const lockTimeout = 2 * time.Second

// store is the state of this Omni, in memory and behind that in a bbolt file.
type store struct {
	*bolt.BackingStore

	state state.State
}

func openStore(dir string) (*store, error) {
	path := filepath.Join(dir, "omni.db")

	backed, err := bolt.NewBackingStore(func() (*bbolt.DB, error) {
		// NoSync: the file must outlive the process, not the machine, and a sync
		// for each of many small writes would make up most of a test's time.
		return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, NoSync: true})
	}, backing.ProtobufMarshaler{})
	if err != nil {
		return nil, fmt.Errorf("open the state %s: %w", path, err)
	}

	build := func(ns resource.Namespace) state.CoreState {
		opts := []inmem.StateOption{inmem.WithHistoryMaxCapacity(10_000)}
		if !ephemeral(ns) {
			opts = append(opts, inmem.WithBackingStore(backed.WithNamespace(ns)))
		}

		return inmem.NewStateWithOptions(opts...)(ns)
	}

	return &store{BackingStore: backed, state: state.WrapCore(namespaced.NewState(build))}, nil
}

// ephemeral tells whether Omni keeps the namespace in memory alone.
func ephemeral(ns resource.Namespace) bool {
	switch ns {
	case resources.InfraProviderEphemeralNamespace, resources.EphemeralNamespace, meta.NamespaceName:
		return true
	default:
		return false
	}
}
