using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using CsCheck;
using Pandora.Contracts;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Templates;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>Valid and invalid JSON bodies, and the words of the errors for invalid ones.</summary>
public sealed class RequestBodyTests
{
    // Words from messages of ASP.NET Core and System.Text.Json, which the API never uses.
    private static readonly string[] FrameworkWords =
    [
        "System.", "Attribute", "Implicit", "inferred", "parameter", "LineNumber", "BytePosition", "Path:", "converted", "Exception",
        "Pandora.Contracts", "Utf8Json", "UTF-16",
        "bind", "Did you mean", "The field", "field is required", "CLR", "deserial", "mapped to", "start of a value", "delegate", "stack",
    ];

    [Theory]
    [InlineData("", "exit 0")]
    [InlineData("timeout", "exit 0")]
    [InlineData("cwd", "exit 0")]
    [InlineData("env", "exit 0")]
    [InlineData("user", "exit 0")]
    [InlineData("stdin", "exit 0")]
    [InlineData("stdin_encoding", "exit 0")]
    [InlineData("encoding", "exit 0")]
    [InlineData("merge", "exit 0")]
    [InlineData("", "")]
    public async Task Null_is_the_default_of_every_optional_field_of_an_exec(string field, string code)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec",
            field.Length == 0 ? $$"""{"code": "{{code}}"}""" : $$"""{"code": "{{code}}", "{{field}}": null}""");
        Assert.Equal((200, 0), (exec.Status, exec.Body.GetProperty("exit_code").GetInt32()));
        Assert.Equal(TimeSpan.FromSeconds(30), Assert.Single(api.Node.GuestOf(id).Commands).TimeLimit);
    }

    [Theory]
    [InlineData("AP/+DQo=", null)]
    [InlineData("", null)]
    [InlineData("AP/+\\r\\nDQo=\\n", null)]
    [InlineData("AP/+DQo", "is not base64")]
    [InlineData("AP_-DQo=", "is not base64")]
    [InlineData("gr\u00fcn", "is not base64")]
    [InlineData("=", "is not base64")]
    public async Task Input_as_base64_reaches_the_command_or_is_refused_by_name(string stdin, string? fault)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec",
            $$"""{"code": "cat", "stdin": "{{stdin}}", "stdin_encoding": "base64", "encoding": "base64"}""");
        if (fault is not null)
        {
            Assert.Equal(400, exec.Status);
            Assert.Contains(fault, exec.Body.GetProperty("errors").GetProperty("stdin")[0].GetString());
            Assert.Empty(api.Node.GuestOf(id).Commands);
            return;
        }

        Assert.Equal(200, exec.Status);
        Assert.Equal(stdin.Length > 0, Assert.Single(api.Node.GuestOf(id).Commands).HasInput);
        Assert.Equal(stdin.Length == 0 ? "" : "AP/+DQo=", exec.Body.GetProperty("stdout").GetString());
    }

    [Theory]
    [InlineData("encoding", "\"latin1\"", "must be utf-8 or base64")]
    [InlineData("encoding", "\"UTF-8\"", "must be utf-8 or base64")]
    [InlineData("encoding", "\"\"", "must be utf-8 or base64")]
    [InlineData("encoding", "64", "has the wrong type")]
    [InlineData("stdin_encoding", "\"hex\"", "must be utf-8 or base64")]
    [InlineData("stdin", "[1, 2]", "has the wrong type")]
    [InlineData("merge", "\"true\"", "has the wrong type")]
    [InlineData("merge", "1", "has the wrong type")]
    public async Task A_way_to_write_bytes_that_there_is_not_is_refused_by_name(string field, string value, string fault)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", $$"""{"code": "cat", "{{field}}": {{value}}}""");
        Assert.Equal(400, exec.Status);
        Assert.Equal(fault, exec.Body.GetProperty("errors").GetProperty(field)[0].GetString());
        Assert.Empty(api.Node.GuestOf(id).Commands);
    }

    [Theory]
    [InlineData("", "out\n", "err\n")]
    [InlineData(""", "merge": false""", "out\n", "err\n")]
    [InlineData(""", "merge": true""", "out\nerr\n", "")]
    public async Task Outputs_are_merged_only_on_request(string member, string stdout, string stderr)
    {
        await using var api = await FakeServer.StartAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", $$"""{"code": "both"{{member}}}""");
        Assert.Equal(
            (stdout, stderr), (exec.Body.GetProperty("stdout").GetString(), exec.Body.GetProperty("stderr").GetString()));
    }

    [Theory]
    [InlineData("idle_timeout")]
    [InlineData("template")]
    [InlineData("metadata")]
    [InlineData("egress")]
    public async Task Null_is_the_default_of_every_field_of_a_create(string field)
    {
        await using var api = await FakeServer.StartAsync();
        Assert.Equal(201, (await api.SendAsync(HttpMethod.Post, "/sandboxes", $$"""{"{{field}}": null}""")).Status);
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("7")]
    [InlineData("\"code\"")]
    public async Task A_body_that_is_no_object_is_refused_as_that(string body)
    {
        await using var api = await FakeServer.StartAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", body);
        Assert.Equal(400, exec.Status);
        Assert.Contains("must be a JSON object", exec.Body.GetProperty("detail").GetString());
    }

    [Theory]
    [InlineData("""{"code": "a\ud800b"}""", "code")]
    [InlineData("""{"code": "\udc00"}""", "code")]
    [InlineData("""{"code": "exit 0", "stdin": "\ud83d"}""", "stdin")]
    [InlineData("""{"code": "exit 0", "env": {"A": "\ud83d"}}""", "env.A")]
    [InlineData("""{"code": "exit 0", "env": {"\ud83d": "A"}}""", "env")]
    [InlineData("""{"code": "exit 0", "\ud83d": "A"}""", null)]
    public async Task Half_a_surrogate_pair_is_reported_as_that(string body, string? field)
    {
        await using var api = await FakeServer.StartAsync();
        var exec = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", body);
        Assert.Equal((400, "invalid_request"), (exec.Status, exec.Body.GetProperty("code").GetString()));
        Assert.Contains("half of a surrogate pair", exec.Body.GetProperty("detail").GetString());
        if (field is not null)
        {
            Assert.Equal(field, Assert.Single(exec.Body.GetProperty("errors").EnumerateObject()).Name);
        }
    }

    [Theory]
    [InlineData("receipt=maybe", "receipt: must be true or false")]
    [InlineData("receipt=", "receipt: must be true or false")]
    [InlineData("receipt=1", "receipt: must be true or false")]
    public async Task A_query_value_that_is_no_boolean_is_refused_by_name(string query, string detail)
    {
        await using var api = await FakeServer.StartAsync();
        var refused = await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{await api.CreateAsync()}?{query}");
        Assert.Equal((400, detail), (refused.Status, refused.Body.GetProperty("detail").GetString()));
        Assert.Equal(1, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task No_answer_to_a_bad_body_has_words_of_the_framework()
    {
        await using var api = await FakeServer.StartAsync(options: new() { PoolSize = 1, MaxSandboxes = 500, IdleTimeout = 60 });
        var id = await api.CreateAsync();
        string[] fields =
        [
            "code", "timeout", "cwd", "env", "user", "stdin", "stdin_encoding", "encoding", "merge",
            "idle_timeout", "template", "metadata", "egress", "other", "", "\\ud800",
        ];
        string[] values =
        [
            "\"exit 0\"", "null", "true", "-1", "1e400", "NaN", "Infinity", "30", "1.5", "\"\"", "\"30\"", "\"\\u0000\"", "\"\\ud800\"",
            "[]", "[1]", "{}", "{\"A\":1}", "{\"A\":null}", "{\"A\":\"b\"}", "{\"A\":{}}", "\"base64\"",
            "\"internet\"", "'a'", "01", "\"\\x\"", "\"unended", "nul", "{\"A\":\"\\udc00\"}", new string('[', 70),
            $"\"{new string('a', 5000)}\"", "\"a\nb\"", "",
        ];
        var member = Gen.Select(AnyOf(fields), AnyOf(values), (f, v) => $"\"{f}\": {v}");
        var body = Gen.Select(member.Array[0, 3], AnyOf("{", "", "[", "\ufeff{", "// c\n{"), AnyOf("}", "", "]", "} {", ",}"),
            (m, open, close) => $"{open}{string.Join(", ", m)}{close}");
        await Gen.Select(body, Gen.Int[0, 40], Gen.Bool, Gen.Byte).SampleAsync(
            async (text, at, isDamaged, with) =>
            {
                var bytes = Encoding.UTF8.GetBytes(text);
                if (isDamaged && bytes.Length > 0)
                {
                    bytes[at % bytes.Length] = with;
                }

                foreach (var path in new[] { "/sandboxes", $"/sandboxes/{id}/exec" })
                {
                    using var content = new ByteArrayContent(bytes);
                    content.Headers.TryAddWithoutValidation("Content-Type", "application/json");
                    using var response = await api.Http.PostAsync(new Uri(path, UriKind.Relative), content);
                    var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
                    if ((int)response.StatusCode < 300)
                    {
                        _ = path == "/sandboxes"
                            ? await api.Node.Sandboxes.DeleteAsync(answer.GetProperty("sandbox_id").GetString()!, complete: false) : null;
                        continue;
                    }

                    var all = answer.GetRawText();
                    Assert.True((int)response.StatusCode == 400, $"{path} {text}: {(int)response.StatusCode} {all}");
                    Assert.Equal("invalid_request", answer.GetProperty("code").GetString());
                    Assert.True(answer.GetProperty("detail").GetString()!.Length > 10, all);
                    Assert.All(FrameworkWords,
                        w => Assert.False(all.Contains(w, StringComparison.OrdinalIgnoreCase), $"{text}: {all} has {w}"));
                }
            }, iter: 1500, threads: 1);
    }

    [Fact]
    public void No_json_has_a_misspelt_size()
    {
        Type[] types =
        [
            .. typeof(PandoraJson).Assembly.GetTypes(), .. typeof(MicroVmRecord).Assembly.GetTypes(),
            .. typeof(Pandora.Load.Machine).Assembly.GetTypes(),
            .. typeof(Pandora.Vmm.IVmm).Assembly.GetTypes(), .. typeof(Pandora.Server.Api.Problems).Assembly.GetTypes(),
        ];
        foreach (var context in types.Where(t => t.IsSubclassOf(typeof(JsonSerializerContext))))
        {
            var options = ((JsonSerializerContext)context.GetProperty("Default")!.GetValue(null)!).Options;
            foreach (var type in types)
            {
                if (options.TypeInfoResolver!.GetTypeInfo(type, options) is { } info)
                {
                    Assert.All(info.Properties, p => Assert.DoesNotContain("mi_b", p.Name));
                }
            }
        }

        Assert.Contains(TemplateJson.Default.Template.Properties, p => p.Name == "memory_mib");
    }

    private static Gen<string> AnyOf(params string[] texts) => Gen.Int[0, texts.Length - 1].Select(i => texts[i]);
}
