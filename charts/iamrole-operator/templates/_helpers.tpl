{{- define "iamrole-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "iamrole-operator.fullname" -}}
{{- $name := include "iamrole-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | replace "." "-" | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" (.Release.Name | replace "." "-") $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Two operators without an election would both work. */}}
{{- define "iamrole-operator.replicas" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection) }}
{{- fail (printf "replicas is %d: more than one needs leaderElection=true, or two operators would work at once" (int .Values.replicas)) }}
{{- end }}
{{- int .Values.replicas }}
{{- end }}

{{- define "iamrole-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "iamrole-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "iamrole-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "iamrole-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{- define "iamrole-operator.serviceAccountName" -}}
{{- $default := ternary (include "iamrole-operator.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $default .Values.serviceAccount.name }}
{{- end }}

{{/*
The image. A digest wins over the tag; global.imageRegistry takes the place of
the repository's first part where that is a host (as in docker: it has a dot or
a colon, or is "localhost").
*/}}
{{- define "iamrole-operator.image" -}}
{{- $repository := .Values.image.repository }}
{{- with (.Values.global).imageRegistry }}
{{- $parts := splitList "/" $repository }}
{{- $first := first $parts }}
{{- if and (gt (len $parts) 1) (or (contains "." $first) (contains ":" $first) (eq "localhost" $first)) }}
{{- $repository = join "/" (rest $parts) }}
{{- end }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What the operator does with IamRoles and Events: everywhere, or only in the watched namespaces. */}}
{{- define "iamrole-operator.namespacedRules" -}}
- apiGroups: [iamrole.dev]
  resources: [iamroles]
  verbs: [get, list, watch, patch]
- apiGroups: [iamrole.dev]
  resources: [iamroles/status]
  verbs: [update]
{{- if (.Values.workloadIdentity).annotateServiceAccounts }}
# Their metadata, and annotations on those that IamRoles list.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, patch]
{{- end }}
{{- if (.Values.workloadIdentity).checkPods }}
# Those that run and have no credentials.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}
{{ include "iamrole-operator.eventRules" . }}
{{- end }}

{{- define "iamrole-operator.eventRules" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* Who is bound. */}}
{{- define "iamrole-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "iamrole-operator.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}
