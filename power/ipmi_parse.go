package power

import (
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
)

// parseFRU reads a FRU inventory. go-ipmi's parser trusts the lengths that
// stand in it, and panics where they lie; what a controller sends does not end
// the program.
func parseFRU(raw []byte) (fru *types.FRU, err error) {
	defer func() {
		if r := recover(); r != nil {
			fru, err = nil, fmt.Errorf("the FRU inventory is broken: %v", r)
		}
	}()

	return types.ParseFRU(raw)
}
