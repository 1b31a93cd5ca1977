package operator_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: a closed client leaves no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
