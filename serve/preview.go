package serve

import (
	"context"
	"fmt"
	"time"

	"github.com/bmctl/bmctl/serve/controllers"
)

// previewTime bounds a dry run: listing Omni, and one question to each BMC.
const previewTime = time.Minute

// Preview says what serve would do with each machine if it ran now, and why. It
// reads Omni and the BMCs and nothing else: nothing is written, no agent is
// called and no socket bound, so that it is safe beside a running provider.
// Whether an agent is connected is taken from what was recorded last.
func (s *Server) Preview(ctx context.Context) ([]controllers.Preview, error) {
	ctx, cancel := context.WithTimeout(ctx, previewTime)
	defer cancel()

	silent, refused := askOmni(ctx, s.state, s.cfg.ID)

	switch {
	case refused != nil:
		return nil, refused
	case silent != nil:
		return nil, fmt.Errorf("%s: %w", s.cfg.OmniAPIEndpoint, silent)
	}

	return s.ctrl.Preview(ctx)
}
