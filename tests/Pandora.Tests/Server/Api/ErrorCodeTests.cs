using System.Net;
using System.Reflection;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Telemetry;
using Pandora.Fakes;
using Pandora.Server.Api;

namespace Pandora.Tests.Api;

/// <summary>Every row of the table of errors, and everything that is made from the table.</summary>
public sealed partial class ErrorCodeTests
{
    private static readonly Dictionary<(string Method, string Path), ApiOperations> Operations = new()
    {
        [("post", "/sandboxes")] = ApiOperations.Create,
        [("get", "/sandboxes")] = ApiOperations.List,
        [("get", "/sandboxes/{id}")] = ApiOperations.Show,
        [("post", "/sandboxes/{id}/exec")] = ApiOperations.Exec,
        [("post", "/sandboxes/{id}/keepalive")] = ApiOperations.KeepAlive,
        [("put", "/sandboxes/{id}/egress")] = ApiOperations.Egress,
        [("post", "/sandboxes/{id}/processes")] = ApiOperations.Process,
        [("get", "/sandboxes/{id}/processes")] = ApiOperations.Process,
        [("get", "/sandboxes/{id}/processes/{processId}")] = ApiOperations.Process,
        [("post", "/sandboxes/{id}/processes/{processId}/input")] = ApiOperations.Process,
        [("delete", "/sandboxes/{id}/processes/{processId}/input")] = ApiOperations.Process,
        [("post", "/sandboxes/{id}/processes/{processId}/signal")] = ApiOperations.Process,
        [("post", "/sandboxes/{id}/processes/{processId}/resize")] = ApiOperations.Process,
        [("get", "/sandboxes/{id}/processes/{processId}/output")] = ApiOperations.Process,
        [("get", "/sandboxes/{id}/processes/{processId}/wait")] = ApiOperations.Process,
        [("get", "/sandboxes/{id}/processes/{processId}/attach")] = ApiOperations.Process,
        [("get", "/sandboxes/{id}/files")] = ApiOperations.File,
        [("put", "/sandboxes/{id}/files")] = ApiOperations.File,
        [("delete", "/sandboxes/{id}/files")] = ApiOperations.File,
        [("get", "/sandboxes/{id}/files/info")] = ApiOperations.File,
        [("get", "/sandboxes/{id}/files/list")] = ApiOperations.File,
        [("post", "/sandboxes/{id}/files/mkdir")] = ApiOperations.File,
        [("post", "/sandboxes/{id}/files/move")] = ApiOperations.File,
        [("post", "/sandboxes/{id}/files/copy")] = ApiOperations.File,
        [("get", "/sandboxes/{id}/files/tar")] = ApiOperations.File,
        [("put", "/sandboxes/{id}/files/tar")] = ApiOperations.File,
        [("get", "/sandboxes/{id}/files/watch")] = ApiOperations.File,
        [("get", "/sandboxes/{id}/ports")] = ApiOperations.Port,
        [("put", "/sandboxes/{id}/ports/{port}")] = ApiOperations.Port,
        [("post", "/sandboxes/{id}/ports/{port}/links")] = ApiOperations.Port,
        [("get", "/sandboxes/{id}/ports/{port}/connect")] = ApiOperations.Port,
        [("get", "/sandboxes/{id}/ssh")] = ApiOperations.Ssh,
        [("get", "/sandboxes/{id}/ssh-keys")] = ApiOperations.Ssh,
        [("put", "/sandboxes/{id}/ssh-keys")] = ApiOperations.Ssh,
        [("delete", "/sandboxes/{id}")] = ApiOperations.Delete,
        [("get", "/health")] = ApiOperations.Health,
        [("get", "/ready")] = ApiOperations.Ready,
    };

    public static TheoryData<PandoraError> EngineErrors => [.. Enum.GetValues<PandoraError>()];

    [Fact]
    public void Every_row_is_complete_and_has_one_field()
    {
        var fields = typeof(ErrorCodes).GetFields(BindingFlags.Public | BindingFlags.Static).Select(f => f.GetValue(null));
        Assert.Equal(ErrorCodes.All, fields);
        Assert.Equal(ErrorCodes.All.Count, ErrorCodes.All.DistinctBy(c => (c.Code, c.Status)).Count());
        Assert.All(ErrorCodes.All, c =>
        {
            Assert.Matches("^[a-z]+(_[a-z]+)*$", c.Code);
            Assert.InRange(c.Status, 400, 599);
            Assert.NotEmpty(c.Title);
            Assert.NotEmpty(c.Meaning);
            Assert.True(c.RetryAfterSeconds is null or > 0);
            Assert.True(Enum.IsDefined(c.Kind));
        });
        Assert.All(ErrorCodes.All.GroupBy(c => c.Status), status => Assert.Single(status.Select(c => c.Title).Distinct()));
        Assert.All(ErrorCodes.All.GroupBy(c => c.Code), code => Assert.Single(code.Select(c => c.Kind).Distinct()));
    }

    [Theory]
    [MemberData(nameof(EngineErrors))]
    public async Task Every_error_of_the_engine_has_the_row_of_its_name(PandoraError error)
    {
        Assert.True(Problems.OfEngine.TryGetValue(error, out var row), $"ErrorCodes has no row '{Label.Of(error)}'");
        var (answer, problem) = await AnswerAsync(new PandoraException(error, "words"));
        Assert.Equal((row.Status, row.Status), (answer.StatusCode, problem.Status));
        Assert.Equal((row.Code, row.Title, "words"), (problem.Code, problem.Title, problem.Detail));
        Assert.Equal(row.RetryAfterSeconds is { } seconds ? $"{seconds}" : "", answer.Headers.RetryAfter.ToString());
    }

    [Fact]
    public async Task An_error_without_a_row_is_a_defect_and_not_the_guests_fault()
    {
        var (answer, problem) = await AnswerAsync(new PandoraException((PandoraError)999, "words"));
        Assert.Equal((500, ErrorCodes.Internal.Code), (answer.StatusCode, problem.Code));
        Assert.DoesNotContain("words", problem.Detail);
    }

    [Fact]
    public void Failure_codes_in_the_engine_have_rows()
    {
        Assert.Equal((ErrorCodes.ExecTimeout.Code, ErrorCodes.Internal.Code), (EngineMetrics.ExecTimeout, EngineMetrics.InternalError));
        Assert.All([EngineMetrics.Cancelled, EngineMetrics.NotDelivered], code => Assert.Null(ErrorCodes.Find(code)));
    }

    [Fact]
    public void An_unknown_status_of_the_framework_has_the_row_of_its_class()
    {
        Assert.Equal(ErrorCodes.NotFound, Problems.OfStatus(404));
        Assert.Equal(ErrorCodes.NotJson, Problems.OfStatus(415));
        Assert.Equal(ErrorCodes.InvalidRequest, Problems.OfStatus(418));
        Assert.Equal(ErrorCodes.Internal, Problems.OfStatus(500));
        Assert.Equal(ErrorCodes.Internal, Problems.OfStatus(599));
    }

    [Fact]
    public async Task The_client_throws_the_exception_of_the_row()
    {
        foreach (var row in ErrorCodes.All)
        {
            var thrown = await ThrownAsync(row.Status, row.Code);
            var expected = row.Kind == ErrorKind.Other ? nameof(PandoraApiException) : $"{row.Kind}Exception";
            Assert.Equal((expected, row.Code), (thrown.GetType().Name, thrown.Code));
        }

        Assert.IsType<PandoraApiException>(await ThrownAsync(503, "a_code_of_a_later_server"));
        var types = typeof(PandoraApiException).Assembly.GetTypes().Where(t => t.IsSubclassOf(typeof(PandoraApiException)));
        Assert.All(types, t => Assert.Contains(ErrorCodes.All, c => $"{c.Kind}Exception" == t.Name));
    }

    [Fact]
    public async Task The_description_of_the_api_names_the_codes_of_each_operation_and_no_others()
    {
        await using var api = await FakeServer.StartAsync();
        var (_, document, _) = await api.SendAsync(HttpMethod.Get, "/openapi/v1.json");
        var described = document.GetProperty("paths").EnumerateObject()
            .SelectMany(path => path.Value.EnumerateObject().Select(method => (Key: (method.Name, path.Name), method.Value))).ToList();
        Assert.Equal(Operations.Keys.Order(), described.Select(d => d.Key).Order());
        foreach (var (key, operation) in described)
        {
            var documented = operation.GetProperty("responses").EnumerateObject().Where(r => r.Name[0] is '4' or '5')
                .SelectMany(r => CodePattern().Matches(r.Value.GetProperty("description").GetString()!)
                    .Select(m => $"{r.Name} {m.Groups["code"].Value}"));
            var rows = ErrorCodes.All.Where(c => c.Operations.HasFlag(Operations[key])).Select(c => $"{c.Status} {c.Code}");
            Assert.Equal(rows.Order(), documented.Order());
        }

        Assert.All(ErrorCodes.All.Where(c => c.Operations == ApiOperations.None), c => Assert.True(c.Status is 404 or 405, c.Code));
    }

    private static async Task<(HttpResponse Answer, ApiProblem Problem)> AnswerAsync(Exception exception)
    {
        var context = new DefaultHttpContext { RequestServices = new ServiceCollection().AddLogging().BuildServiceProvider() };
        context.Response.Body = new MemoryStream();
        Assert.True(await new Problems(NullLogger<Problems>.Instance).TryHandleAsync(context, exception, default));
        context.Response.Body.Position = 0;
        return (context.Response, (await JsonSerializer.DeserializeAsync(context.Response.Body, PandoraJson.Default.ApiProblem))!);
    }

    private static async Task<PandoraApiException> ThrownAsync(int status, string code)
    {
        using var answer = new OneAnswer(status, $$"""{"status":{{status}},"detail":"words","code":"{{code}}"}""");
        using var http = new HttpClient(answer) { BaseAddress = new Uri("http://127.0.0.1") };
        using var pandora = new PandoraClient(http);
        return await Assert.ThrowsAnyAsync<PandoraApiException>(() => pandora.GetHealthAsync());
    }

    [GeneratedRegex("^- `(?<code>[a-z_]+)`: ", RegexOptions.Multiline)]
    private static partial Regex CodePattern();

    private sealed class OneAnswer(int status, string body) : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            Task.FromResult(new HttpResponseMessage((HttpStatusCode)status) { Content = new StringContent(body) });
    }
}
