using Microsoft.Kiota.Abstractions.Authentication;
using Microsoft.Kiota.Http.HttpClientLibrary;
using Pandora.Fakes;
using Pandora.GeneratedClient;
using Pandora.GeneratedClient.Models;

namespace Pandora.Tests.Api;

/// <summary>The API as a program sees it that uses a client generated from <c>docs/openapi.json</c>.</summary>
public sealed class GeneratedClientTests
{
    [Fact]
    public async Task A_generated_client_creates_uses_and_deletes_a_sandbox()
    {
        await using var api = await FakeServer.StartAsync();
        using var adapter = new HttpClientRequestAdapter(new AnonymousAuthenticationProvider(), httpClient: api.Http)
        {
            BaseUrl = "http://127.0.0.1",
        };
        var pandora = new PandoraApi(adapter);
        var metadata = new CreateSandboxRequest_metadata { AdditionalData = new Dictionary<string, object> { ["who"] = "me" } };
        var created = await pandora.Sandboxes.PostAsync(new CreateSandboxRequest { IdleTimeout = 120, Metadata = metadata });
        Assert.Equal((120, "default"), (created!.IdleTimeout, created.Template));
        var id = created.SandboxId!;
        Assert.Equal(id, Assert.Single((await pandora.Sandboxes.GetAsync(c => c.QueryParameters.Metadata = ["who:me"]))!).SandboxId);

        var exec = await pandora.Sandboxes[id].Exec.PostAsync(new ExecRequest { Code = "echo hello" });
        Assert.Equal((0, "hello\n", ""), (exec!.ExitCode, exec.Stdout, exec.Stderr));
        var timeout =
            await Assert.ThrowsAsync<ApiProblem>(() => pandora.Sandboxes[id].Exec.PostAsync(new ExecRequest { Code = "timeout" }));
        Assert.Equal(("exec_timeout", "killed", "so far"), (timeout.Code, timeout.Command, timeout.Stdout));

        Assert.Equal("running", (await pandora.Sandboxes[id].GetAsync())!.State);
        await pandora.Sandboxes[id].Keepalive.PostAsync();
        Assert.Equal("ok", (await pandora.Health.GetAsync())!.Status);
        await pandora.Ready.GetAsync();
        var receipt = await pandora.Sandboxes[id].DeleteAsync(c => c.QueryParameters.Receipt = true);
        Assert.Equal(("deleted", 0), (receipt!.Reason, receipt.Left));
        Assert.Equal("sandbox_not_found", (await Assert.ThrowsAsync<ApiProblem>(() => pandora.Sandboxes[id].GetAsync())).Code);
        Assert.Equal("invalid_request",
            (await Assert.ThrowsAsync<ApiProblem>(() => pandora.Sandboxes.PostAsync(new CreateSandboxRequest { Template = "nope" }))).Code);

        var another = await pandora.Sandboxes.PostAsync(new CreateSandboxRequest());
        Assert.Null(await pandora.Sandboxes[another!.SandboxId!].DeleteAsync());
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }
}
