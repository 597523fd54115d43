.PHONY: up down demo rig-build

up: ## start the rig: Kubernetes, moto and the operator, on loopback
	tests/rig/rig up

down: ## end the rig
	tests/rig/rig down

demo: ## the rig up, the examples applied, the roles shown from AWS's side
	tests/rig/demo

rig-build: ## make the rig's binaries only
	tests/rig/rig build
