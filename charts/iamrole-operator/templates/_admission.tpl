{{/*
Lists of CEL. "patterns" makes regular expressions of an allowed list's patterns that match at least what they match,
"exact" such that match at most that; "values" replaces the tokens in what a spec says, and leaves out where one is
not known. All text of a pattern is quoted, so nothing in it has another meaning.
*/}}
{{- define "iamrole-operator.quoted" -}}
.map(pattern, r'(?s)^\Q' + pattern.replace('\\', r'\E\\\Q').replace('*', r'\E.*\Q').replace('?', r'\E.\Q')
.replace('$(namespace)', request.namespace).replace('$(name)', variables.name)
.replace('$(account)', variables.account).replace('$(partition)', variables.partition)
{{- end }}
{{- define "iamrole-operator.patterns" -}}
{{ . }}.join('').size() > 20000 ? [''] : {{ . }}.map(pattern, pattern.contains('$$(') ? '*' : pattern){{ include "iamrole-operator.quoted" . }}
.replace('$(account)', r'\E.*\Q').replace('$(partition)', r'\E.*\Q').replace('$(cluster)', r'\E.*\Q').replace('$(name)', r'\E.*\Q') + r'\E$')
.map(pattern, pattern.contains('$(') ? '' : pattern)
{{- end }}
{{- define "iamrole-operator.exact" -}}
{{ . }}.join('').size() > 20000 ? [] : {{ . }}.filter(pattern, !pattern.contains('$$(')){{ include "iamrole-operator.quoted" . }} + r'\E$').filter(pattern, !pattern.contains('$('))
{{- end }}
{{- define "iamrole-operator.values" -}}
{{ . }}.filter(text, !text.contains('$$(')).map(text, text.replace('$(namespace)', request.namespace).replace('$(name)', variables.name)
.replace('$(account)', variables.account).replace('$(partition)', variables.partition)).filter(text, !text.contains('$('))
{{- end }}
{{/* The API server gives a policy so much work and no more; whoever runs out of it would refuse what is allowed. */}}
{{- define "iamrole-operator.affordable" -}}
({{ index . 0 }}.join('').size() / 10 + {{ index . 0 }}.size()) * ({{ index . 1 }}.join('').size() / 4 + {{ index . 1 }}.size()) < 300000
{{- end }}
{{- define "iamrole-operator.refusal" -}}
'{{ index . 0 }}: "' + value + '" is not allowed: allowed.{{ index . 1 }} lists ' + (has(variables.allowed.{{ index . 1 }}) ? {{ include "iamrole-operator.shown" (printf "variables.allowed.%s" (index . 1)) }} : 'nothing')
{{- end }}
{{- define "iamrole-operator.shown" -}}
({{ . }}.join(', ').size() > 300 ? string({{ . }}.size()) + ' patterns' : {{ . }}.join(', '))
{{- end }}
