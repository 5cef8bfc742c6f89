{{- define "cubicle.labels" -}}
app.kubernetes.io/name: cubicle
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- define "cubicle.keys" -}}
{{ .Values.controller.keys | default "cubicle-keys" }}
{{- end }}
{{- /* Variables of OpenTelemetry, for the `env` of a container. */ -}}
{{- define "cubicle.tracing" -}}
{{- with .Values.tracing }}
{{- if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
{{- with .headers }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: headers}}
{{- end }}
{{- range $name, $value := .variables }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
