package lab

import "syscall"

// childAttributes have serve end with the lab, whatever ends the lab, and keep
// the terminal's ^C from it: the lab stops it in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
