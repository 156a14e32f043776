using Microsoft.AspNetCore.Http;
using Pandora.E2b.Connect;
using Pandora.E2b.Files;
using Pandora.E2b.Processes;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Data;

/// <summary>
/// What E2B's clients take for the agent in the guest. It checks the sandbox's token, and does what is asked; what is not known is not
/// found. A stream of a sandbox that ends is cut: clients then ask for the sandbox's health.
/// </summary>
internal sealed class AgentApi(E2bOptions options, GuestUsers users, ProcessCalls processes, FileCalls files, TimeProvider time)
{
    private const string TokenHeader = "X-Access-Token";

    /// <summary>Handles a request.</summary>
    /// <param name="context">The request.</param>
    /// <param name="target">What it is for.</param>
    /// <param name="sandbox">The sandbox.</param>
    public async Task HandleAsync(HttpContext context, E2bTarget target, Sandbox sandbox)
    {
        var path = target.Path.Value ?? "";
        if (path == "/health" && HttpMethods.IsGet(context.Request.Method))
        {
            context.Response.StatusCode = StatusCodes.Status204NoContent;
            return;
        }

        var token = sandbox.Annotations.GetValueOrDefault(E2bSandbox.TokenKey);
        var shown = context.Request.Headers[TokenHeader].ToString();
        var request = new GuestRequest(context, sandbox, users);
        if (token is null || !E2bSandbox.IsToken(shown, token))
        {
            if (path != "/files" || token is null)
            {
                await E2bProblems.WriteAsync(
                    context, 401, "unauthorized access, please provide a valid access token or method signing if supported");
                return;
            }

            if (FileSignature.Refuse(context.Request, token, time.GetUtcNow()) is { } refusal)
            {
                await E2bProblems.WriteAsync(context, 401, refusal);
                return;
            }

            // Many may have the address who are no clients.
            options.Serve(context);
            request = request with { IsSigned = true };
        }
        else
        {
            options.Admit(context, sandbox.Ending);
        }

        try
        {
            await DispatchAsync(request, path);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException && context.RequestAborted.IsCancellationRequested)
        {
            // The client is gone.
        }
    }

    private async Task DispatchAsync(GuestRequest request, string path)
    {
        if (path == "/files")
        {
            await FileTransfers.HandleAsync(request);
            return;
        }

        Func<GuestRequest, Task>? call = null;
        if (HttpMethods.IsPost(request.Context.Request.Method))
        {
            call = path.Split('/') switch
            {
                ["", "process.Process", var name] => processes.Find(name),
                ["", "filesystem.Filesystem", var name] => files.Find(name),
                _ => null,
            };
        }

        if (call is null)
        {
            await E2bProblems.WriteAsync(request.Context, 404, $"there is no route {request.Context.Request.Method} {path}");
            return;
        }

        try
        {
            request.Call.Check();
            await call(request);
        }
        catch (PandoraException e) when (e.Error is PandoraError.SandboxNotFound or PandoraError.SandboxGone)
        {
            Cut(request);
        }
        catch (PandoraException e)
        {
            await request.Call.FailAsync(ConnectException.Of(e));
        }
        catch (ConnectException e)
        {
            await request.Call.FailAsync(e);
        }
    }

    // A stream that ended in order would say that its process has ended.
    private static void Cut(GuestRequest request) => request.Context.Abort();
}
