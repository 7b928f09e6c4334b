// SPDX-License-Identifier: Apache-2.0
// tidy_scope: a plugin of clang-tidy 14 that lets its checks visit only what our own files declare.
//
// Why: clang-tidy visits every declaration of every header, LibTorch's million included, and drops
// what it finds there. That was 26 of the 38 seconds which a file with LibTorch took. clangd
// narrows the scope of the traversal in the same way; clang-tidy 14 has no option for it. What it
// costs us: a check that asks for the parent of a declaration outside any namespace gets no answer,
// and nearly all of ours are inside one. scripts/tidy.py compiles it and loads it; no program of
// djinn links it. One thread: clang-tidy's.
#include <clang-tidy/ClangTidyCheck.h>
#include <clang-tidy/ClangTidyModule.h>
#include <clang-tidy/ClangTidyModuleRegistry.h>
#include <clang/AST/ASTContext.h>
#include <clang/ASTMatchers/ASTMatchFinder.h>
#include <clang/Basic/SourceManager.h>

#include <utility>
#include <vector>

namespace djinn::tidy {
namespace {

// Reports nothing. It is told of the translation unit before anything in it is visited, and what it
// sets there is what clang goes through next.
class ScopeCheck : public clang::tidy::ClangTidyCheck {
 public:
  using ClangTidyCheck::ClangTidyCheck;

  void registerMatchers(clang::ast_matchers::MatchFinder* finder) override {
    finder->addMatcher(clang::ast_matchers::translationUnitDecl().bind("unit"), this);
  }

  void check(const clang::ast_matchers::MatchFinder::MatchResult& found) override {
    const clang::SourceManager& sources = *found.SourceManager;
    std::vector<clang::Decl*> ours;
    // Not decls(): that would load everything from a precompiled header, which holds no file of
    // ours.
    for (clang::Decl* decl :
         found.Nodes.getNodeAs<clang::TranslationUnitDecl>("unit")->noload_decls()) {
      if (!sources.isInSystemHeader(sources.getExpansionLoc(decl->getLocation()))) {
        ours.push_back(decl);
      }
    }
    found.Context->setTraversalScope(std::move(ours));
  }
};

class Module : public clang::tidy::ClangTidyModule {
 public:
  void addCheckFactories(clang::tidy::ClangTidyCheckFactories& factories) override {
    factories.registerCheck<ScopeCheck>("djinn-scope");
  }
};

const clang::tidy::ClangTidyModuleRegistry::Add<Module> kModule("djinn", "narrows what is visited");

}  // namespace
}  // namespace djinn::tidy
