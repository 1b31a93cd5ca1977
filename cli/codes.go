package cli

// code names a kind of failure for programs. The list is closed: docs/errors.md
// describes every one.
type code string

// The codes.
const (
	codeInternal        code = "internal"
	codeUsage           code = "usage"
	codeConfigInvalid   code = "config_invalid"
	codePromptNeeded    code = "prompt_needed"
	codeAmbiguousTarget code = "ambiguous_target"
	codeNoMatch         code = "no_match"
	codeRefused         code = "refused"
	codeSomeFailed      code = "some_failed"
	codeTimeout         code = "timeout"
	codeServeDown       code = "serve_not_running"
	codeServeDenied     code = "serve_permission"
	codeServeFailed     code = "serve_failed"
	codeWouldDisrupt    code = "would_disrupt"
	codePXEFailed       code = "pxe_failed"
	codeNotMet          code = "not_met"
	codeOmniAuth        code = "omni_auth"
	codeOmniUnreachable code = "omni_unreachable"
	codeOmniFailed      code = "omni_failed"
	codeFactoryFailed   code = "factory_failed"
	codeBMCAuth         code = "bmc_auth"
	codeBMCUnreachable  code = "bmc_unreachable"
	codeNotYet          code = "not_yet"
	codeBMCBusy         code = "bmc_busy"
	codeBMCRefused      code = "bmc_refused"
	codeBMCUnsupported  code = "bmc_unsupported"
	codeBMCAmbiguous    code = "bmc_ambiguous"
	codeInterrupted     code = "interrupted"
)

// The exit codes.
const (
	exitDone        = 0
	exitError       = 1
	exitUsage       = 2
	exitSomeFailed  = 3
	exitAuth        = 4
	exitUnreachable = 5
	exitNoMatch     = 6
	exitRefused     = 7
	exitTestFailed  = 8
	exitInterrupted = 130
)

const exitHead = "Exit codes:\n"

// exitHelp stands in every command's help.
const exitHelp = exitHead + `  0    done (for sets: every target)
  1    error
  2    usage, bad configuration, or a prompt was needed and none was possible
  3    some targets failed, others did not
  4    authentication or permission (BMC or Omni)
  5    unreachable or timed out, every target
  6    nothing matched
  7    refused at the prompt or by a guard; nothing was changed
  8    the test failed: the tool worked, the answer is no
  130  interrupted
`

// kindOf is what follows from a code: the exit code, and whether the same
// command may work when it is tried again.
type kindOf struct {
	exit      int
	retryable bool
}

func codes() map[code]kindOf {
	return map[code]kindOf{
		codeInternal:        {exit: exitError},
		codeUsage:           {exit: exitUsage},
		codeConfigInvalid:   {exit: exitUsage},
		codePromptNeeded:    {exit: exitUsage},
		codeAmbiguousTarget: {exit: exitUsage},
		codeNoMatch:         {exit: exitNoMatch},
		codeRefused:         {exit: exitRefused},
		codeSomeFailed:      {exit: exitSomeFailed, retryable: true},
		codeTimeout:         {exit: exitUnreachable, retryable: true},
		codeServeDown:       {exit: exitUnreachable, retryable: true},
		codeServeDenied:     {exit: exitAuth},
		codeServeFailed:     {exit: exitError},
		codeWouldDisrupt:    {exit: exitTestFailed},
		codePXEFailed:       {exit: exitTestFailed},
		codeNotMet:          {exit: exitTestFailed},
		codeOmniAuth:        {exit: exitAuth},
		codeOmniUnreachable: {exit: exitUnreachable, retryable: true},
		codeOmniFailed:      {exit: exitError, retryable: true},
		codeFactoryFailed:   {exit: exitError, retryable: true},
		codeBMCAuth:         {exit: exitAuth},
		codeBMCUnreachable:  {exit: exitUnreachable, retryable: true},
		codeNotYet:          {exit: exitError, retryable: true},
		codeBMCBusy:         {exit: exitError, retryable: true},
		codeBMCRefused:      {exit: exitError},
		codeBMCUnsupported:  {exit: exitError},
		codeBMCAmbiguous:    {exit: exitError},
		codeInterrupted:     {exit: exitInterrupted, retryable: true},
	}
}
