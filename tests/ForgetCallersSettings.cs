using System.Runtime.CompilerServices;
using Pandora.TestHost;

/// <summary>Part of each test program: whoever starts one, and however, it begins without the caller's settings.</summary>
internal static class ForgetCallersSettings
{
    [ModuleInitializer]
    internal static void Run() => CallersSettings.Forget();
}
