using System.Net;
using System.Net.Http.Headers;
using System.Reflection;
using System.Text;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.Fakes;

namespace Pandora.Tests.Client;

/// <summary>What the client sends, what it makes of answers, and when it tries again.</summary>
public sealed class PandoraClientTests
{
    private const string Health = """
        {"status":"ok","version":"1","pool_size":1,"warm_vms":1,"active_sandboxes":0,"max_sandboxes":1,"instance":"abcde","vmm":"x",
        "isolation":"x","notes":[]}
        """;

    [Theory]
    [InlineData("http://127.0.0.1:8000", "http://127.0.0.1:8000/health")]
    [InlineData("https://host/pandora", "https://host/pandora/health")]
    [InlineData("https://host/pandora/", "https://host/pandora/health")]
    [InlineData("https://host/a/b", "https://host/a/b/health")]
    public async Task A_path_in_the_address_is_kept(string url, string requested)
    {
        using var server = new Answers((200, Health));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http, new PandoraClientOptions { Url = new Uri(url) });
        await pandora.GetHealthAsync();
        using var withBase = new HttpClient(server) { BaseAddress = new Uri(url) };
        using var other = new PandoraClient(withBase);
        await other.GetHealthAsync();
        Assert.Equal([requested, requested], server.Requested);
    }

    [Fact]
    public async Task The_key_is_sent_on_a_client_of_the_callers_too()
    {
        using var server = new Answers((200, Health));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http, new PandoraClientOptions { ApiKey = "secret" });
        await pandora.GetHealthAsync();
        Assert.Equal(["Bearer secret"], server.Keys);
    }

    [Theory]
    [InlineData(429, "overloaded")]
    [InlineData(429, "too_many_execs")]
    [InlineData(429, "quota_exceeded")]
    [InlineData(503, "recovering")]
    public async Task A_call_is_repeated_where_the_server_did_nothing_of_it(int status, string code)
    {
        var time = new CountingTime();
        using var server = new Answers((status, Problem(status, code)), (status, Problem(status, code)), (200, Health));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http, new PandoraClientOptions { TimeProvider = time });
        var call = pandora.GetHealthAsync();
        await FakeNode.UntilAsync(() => time.Timers == 1);
        time.Advance(TimeSpan.FromSeconds(1.9));
        Assert.Single(server.Requested);
        time.Advance(TimeSpan.FromSeconds(0.4));
        await FakeNode.UntilAsync(() => time.Timers == 2);
        Assert.Equal(2, server.Requested.Count);
        time.Advance(TimeSpan.FromSeconds(2.3));
        Assert.Equal("ok", (await call).Status);
        Assert.Equal(3, server.Requested.Count);
    }

    [Theory]
    [InlineData(503, "sandbox_limit", 30)]
    [InlineData(503, "host_full", 30)]
    [InlineData(503, "interrupted", 30)]
    [InlineData(403, "above_ceiling", 30)]
    [InlineData(429, "too_many_attempts", 30)]
    [InlineData(429, "overloaded", 0)]
    [InlineData(429, "overloaded", 1)]
    public async Task Other_errors_come_at_once_with_the_time_of_the_next_try(int status, string code, int limit)
    {
        using var server = new Answers((status, Problem(status, code)));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http, new PandoraClientOptions { MaxRetryTime = TimeSpan.FromSeconds(limit) });
        var error = await Assert.ThrowsAnyAsync<PandoraApiException>(() => pandora.GetHealthAsync());
        Assert.Equal((code, (int?)status, (TimeSpan?)TimeSpan.FromSeconds(2)), (error.Code, error.Status, error.RetryAfter));
    }

    [Fact]
    public async Task Retries_end_with_their_time()
    {
        var time = new CountingTime();
        using var server = new Answers((429, Problem(429, "overloaded")));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(
            http, new PandoraClientOptions { TimeProvider = time, MaxRetryTime = TimeSpan.FromSeconds(5) });
        var call = pandora.GetHealthAsync();
        await PassAsync(call, time, TimeSpan.FromSeconds(2.2));
        Assert.Equal("overloaded", (await Assert.ThrowsAsync<SandboxUnavailableException>(() => call)).Code);
        Assert.Equal(3, server.Requested.Count);
    }

    [Fact]
    public async Task Zero_seconds_of_Retry_After_make_no_flood()
    {
        using var server = new Answers((429, Problem(429, "overloaded"))) { RetryAfter = new(TimeSpan.Zero) };
        using var http = new HttpClient(server);
        var time = new CountingTime();
        using var pandora = new PandoraClient(
            http, new PandoraClientOptions { TimeProvider = time, MaxRetryTime = TimeSpan.FromSeconds(1) });
        var call = pandora.GetHealthAsync();
        await PassAsync(call, time, TimeSpan.FromSeconds(0.22));
        await Assert.ThrowsAsync<SandboxUnavailableException>(() => call);
        Assert.Equal(5, server.Requested.Count);
    }

    [Fact]
    public async Task Retry_After_may_be_a_date()
    {
        var time = new FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 12, 0, 0, TimeSpan.Zero));
        using var server = new Answers((503, Problem(503, "sandbox_limit"))) { RetryAfter = new(time.GetUtcNow().AddSeconds(7)) };
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http, new PandoraClientOptions { TimeProvider = time });
        var error = await Assert.ThrowsAsync<SandboxUnavailableException>(() => pandora.GetHealthAsync());
        Assert.Equal(TimeSpan.FromSeconds(7), error.RetryAfter);
    }

    [Theory]
    [InlineData("localhost:8000")]
    [InlineData("ftp://host")]
    [InlineData("http://user:secret@host")]
    [InlineData("http://host/?token=secret")]
    public void An_address_that_is_none_is_refused_at_once_without_its_secrets(string url)
    {
        var refused = Assert.Throws<ArgumentException>(() => new PandoraClient(url));
        Assert.DoesNotContain("secret", refused.Message, StringComparison.Ordinal);
        using var http = new HttpClient();
        if (url.StartsWith("http", StringComparison.Ordinal))
        {
            http.BaseAddress = new Uri(url);
            Assert.Throws<ArgumentException>(() => new PandoraClient(http));
        }
    }

    [Fact]
    public void A_key_with_a_line_break_is_refused_at_once()
    {
        var refused = Assert.Throws<ArgumentException>(() => new PandoraClient("http://host", "secret\n"));
        Assert.DoesNotContain("secret", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_timeout_of_the_callers_HTTP_client_is_no_cancellation()
    {
        using var server = new Answers((200, Health)) { Delay = TimeSpan.FromMinutes(1) };
        using var http = new HttpClient(server) { Timeout = TimeSpan.FromMilliseconds(100) };
        using var pandora = new PandoraClient(http);
        await Assert.ThrowsAsync<UnexpectedAnswerException>(() => pandora.GetHealthAsync());
        await Assert.ThrowsAsync<ExecInterruptedException>(() => pandora.Connect("x").ExecAsync("true"));
        using var patientHttp = new HttpClient(server) { Timeout = Timeout.InfiniteTimeSpan };
        using var patient = new PandoraClient(patientHttp);
        using var stop = new CancellationTokenSource();
        var call = patient.GetHealthAsync(stop.Token);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
    }

    [Fact]
    public async Task What_a_handler_of_the_program_throws_has_the_base()
    {
        using var server = new Answers((200, Health)) { Error = new InvalidTimeZoneException("a handler's") };
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http);
        Assert.Contains("a handler's", (await Assert.ThrowsAsync<UnexpectedAnswerException>(() => pandora.GetHealthAsync())).Message);
    }

    [Theory]
    [InlineData(502, "null", "Bad Gateway")]
    [InlineData(502, "", "Bad Gateway")]
    [InlineData(401, "{}", "HTTP 401")]
    public async Task An_error_without_words_has_a_message(int status, string body, string message)
    {
        using var server = new Answers((status, body));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http);
        Assert.Equal(message, (await Assert.ThrowsAsync<PandoraApiException>(() => pandora.GetHealthAsync())).Message);
    }

    [Fact]
    public async Task An_answer_without_an_id_is_an_error()
    {
        using var server = new Answers((200, "{}"), (200, "[null]"));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http);
        await Assert.ThrowsAsync<UnexpectedAnswerException>(() => pandora.CreateAsync(new() { Egress = "none" }));
        await Assert.ThrowsAsync<UnexpectedAnswerException>(() => pandora.ListAsync());
    }

    [Fact]
    public async Task An_answer_of_something_else_is_an_error_with_its_text()
    {
        using var server = new Answers((502, "<html>no upstream</html>"));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http);
        var error = await Assert.ThrowsAsync<PandoraApiException>(() => pandora.GetHealthAsync());
        Assert.Equal((null, (int?)502, "<html>no upstream</html>"), (error.Code, error.Status, error.Message));
    }

    [Theory]
    [InlineData("<html>welcome</html>")]
    [InlineData("null")]
    [InlineData("")]
    public async Task A_success_that_is_no_answer_of_the_servers_is_an_error(string body)
    {
        using var server = new Answers((200, body));
        using var http = new HttpClient(server);
        using var pandora = new PandoraClient(http);
        await Assert.ThrowsAsync<UnexpectedAnswerException>(() => pandora.GetHealthAsync());
        await Assert.ThrowsAsync<UnexpectedAnswerException>(() => pandora.Connect("x").ExecAsync("true"));
    }

    [Fact]
    public void All_exceptions_have_one_base()
    {
        var types = typeof(PandoraClient).Assembly.GetExportedTypes().Where(t => t.IsSubclassOf(typeof(Exception))).ToList();
        Assert.True(types.Count > 8);
        Assert.All(types, t => Assert.True(t == typeof(PandoraClientException) || t.IsSubclassOf(typeof(PandoraClientException)), t.Name));
    }

    [Fact]
    public void No_member_shows_a_message_of_the_wire()
    {
        const BindingFlags All = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
        var shown = typeof(PandoraClient).Assembly.GetExportedTypes()
            .SelectMany(t => t.GetMembers(All))
            .Where(m => m.GetCustomAttribute<ObsoleteAttribute>() is null && TypesOf(m).Any(IsOfWire))
            .Select(m => $"{m.DeclaringType!.Name}.{m.Name}");
        Assert.Empty(shown);
    }

    [Fact]
    public async Task A_test_can_replace_client_and_sandbox()
    {
        using PandoraClient pandora = new ScriptedClient();
        await using var sandbox = await pandora.CreateAsync();
        Assert.Equal("echo 1", (await sandbox.ExecAsync("echo 1")).Stdout);
        Assert.Equal("scripted", sandbox.Id);
        await Assert.ThrowsAsync<NotSupportedException>(() => pandora.GetHealthAsync());
        await Assert.ThrowsAsync<NotSupportedException>(() => sandbox.EndAsync());
    }

    [Fact]
    public async Task A_program_gets_the_client_from_its_services()
    {
        using var server = new Answers((200, Health));
        var services = new ServiceCollection();
        services.AddPandoraClient("https://host/pandora", "secret").ConfigurePrimaryHttpMessageHandler(() => server);
        await using var provider = services.BuildServiceProvider();
        await provider.GetRequiredService<PandoraClient>().GetHealthAsync();
        Assert.Equal(["https://host/pandora/health"], server.Requested);
        Assert.Equal(["Bearer secret"], server.Keys);
    }

    private static bool IsOfWire(Type type) =>
        type.Assembly == typeof(ApiProblem).Assembly || type.GetGenericArguments().Any(IsOfWire);

    private static IEnumerable<Type> TypesOf(MemberInfo member) => member switch
    {
        PropertyInfo property => [property.PropertyType],
        MethodInfo { IsSpecialName: false } method => [method.ReturnType, .. method.GetParameters().Select(p => p.ParameterType)],
        ConstructorInfo constructor => constructor.GetParameters().Select(p => p.ParameterType),
        _ => [],
    };

    private static string Problem(int status, string code) => $$"""{"status":{{status}},"code":"{{code}}","detail":"a test says so"}""";

    // Lets the time pass to the end of a call, for each pause of the client a little more than the pause.
    private static async Task PassAsync(Task call, CountingTime time, TimeSpan pause)
    {
        for (var pauses = 1; !call.IsCompleted; pauses++)
        {
            await FakeNode.UntilAsync(() => call.IsCompleted || time.Timers == pauses);
            time.Advance(pause);
        }
    }

    private sealed class ScriptedClient : PandoraClient
    {
        public override Task<Sandbox> CreateAsync(CreateSandboxOptions? options = null, CancellationToken cancellationToken = default) =>
            Task.FromResult<Sandbox>(new ScriptedSandbox());
    }

    private sealed class ScriptedSandbox() : Sandbox("scripted")
    {
        public override Task<ExecResult> ExecAsync(
            string code, ExecOptions? options = null, CancellationToken cancellationToken = default) =>
            Task.FromResult(new ExecResult { Stdout = code });
    }

    // Each answer once, the last one for ever; every error names two seconds.
    private sealed class Answers(params (int Status, string Body)[] answers) : HttpMessageHandler
    {
        public RetryConditionHeaderValue RetryAfter { get; init; } = new(TimeSpan.FromSeconds(2));

        public TimeSpan Delay { get; init; }

        public Exception? Error { get; init; }

        public List<string> Requested { get; } = [];

        public List<string?> Keys { get; } = [];

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (Delay > TimeSpan.Zero)
            {
                await Task.Delay(Delay, TimeProvider.System, cancellationToken);
            }

            if (Error is not null)
            {
                throw Error;
            }

            var (status, body) = answers[Math.Min(Requested.Count, answers.Length - 1)];
            Requested.Add(request.RequestUri!.AbsoluteUri);
            Keys.Add(request.Headers.Authorization?.ToString());
            var response = new HttpResponseMessage((HttpStatusCode)status)
            {
                Content = new StringContent(body, Encoding.UTF8, "application/json"),
            };
            if (status >= 400)
            {
                response.Headers.RetryAfter = RetryAfter;
            }

            return response;
        }
    }
}
